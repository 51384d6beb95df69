"""The errors that a server answers and a client raises, and the statuses that both protocols share."""

import re

# gRPC's status names, and the HTTP status under which TF Serving sends each.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "CANCELLED": 499,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

_LONGEST = 2000  # characters of a message, which may quote the request


class RequestError(Exception):
    """A request that the server refuses or cannot finish.

    Args:
        code: A status name of gRPC, a key of `HTTP_STATUS`.
        message: What was expected and what came.
        http_status: An HTTP status that says more than the status of `code`, such as 408 or 413.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None):
        if len(message) > _LONGEST:  # gRPC's clients fail on an answer with more than 8 KB of message
            message = f"{message[:_LONGEST]} ..."
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status or HTTP_STATUS[code]


def invalid(message: str) -> RequestError:
    """Returns the error for a request that its sender must correct."""
    return RequestError("INVALID_ARGUMENT", message)


def tensorflow_message(text: str) -> str:
    """Returns TensorFlow's own words of an error, without the call stack before them and the graph's nodes behind.

    Its advice behind the error of a missing file, to load a model on another device, is left out too.
    """
    lines = [line.strip() for line in re.split(r"\[\[| \[Op:|\n You may be", text)[0].splitlines() if line.strip()]
    last = re.sub(r"^(\(\d+\) [A-Z_]+:|\{\{function_node .*?\}\})\s*", "", lines[-1]) if lines else ""
    return re.sub(r"^assertion failed: \[(.*)\]$", r"\1", last)


def about_image(name: str, message: str) -> str:
    """Returns a message about one image that calls it `name`, whichever place the image had in a smaller request."""
    found = re.fullmatch(r"Image \d+ of the request (.*)", message, re.DOTALL)
    return f"{name} {found[1] if found else f'cannot be read: {message}'}"


class ServingError(OSError):
    """The error that a client raises when a server answers with an error or does not answer.

    Attributes:
        message: The server's message, or why there is no answer.
        code: The HTTP status (int) over REST, the status name (str) over gRPC; None if there is no answer.
        retry_after: Seconds that the server asks to wait; None if it does not say.
    """

    def __init__(self, message: str, code: int | str | None = None, retry_after: float | None = None):
        if re.search(r"assertion failed: \[|\[\[\{\{", message):
            message = tensorflow_message(message)
        super().__init__(f"{message} [{code}]" if code is not None else message)
        self.message = message
        self.code = code
        self.retry_after = retry_after


class UnreachableError(ServingError):
    """The error of a connection that is refused or lost, so that another try may succeed."""
