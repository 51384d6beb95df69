"""What the command line prints."""


def error_line(errors: str) -> str:
    """The one line of an error; of bad usage, the one beside those that say what is right."""
    lines = errors.splitlines()
    (line,) = [line for line in lines if line.startswith("Error: ")]
    assert lines == [line] or lines[0].startswith("Usage: "), errors
    return line
