"""Errors of the wire: what a server answers, what a client raises, and the statuses that both protocols share."""

# gRPC's status names, and the HTTP status under which TF Serving sends each.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class RequestError(Exception):
    """A request that the server refuses or cannot finish.

    Args:
        code: A status name of gRPC, a key of `HTTP_STATUS`.
        message: What was expected and what came.
        http_status: The HTTP status, if it says more than the one of `code` (408, 413).
    """

    def __init__(self, code: str, message: str, http_status: int | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status or HTTP_STATUS[code]


def invalid(message: str) -> RequestError:
    """Returns the error for a request that its sender must correct."""
    return RequestError("INVALID_ARGUMENT", message)


class ServingError(OSError):
    """What a client raises when a server answers an error or does not answer.

    Attributes:
        message: The server's own words, or what went wrong on the way to it.
        code: The HTTP status (int) over REST, the status name (str) over gRPC, None without an answer.
    """

    def __init__(self, message: str, code: int | str | None = None):
        super().__init__(f"{message} [{code}]" if code is not None else message)
        self.message = message
        self.code = code
