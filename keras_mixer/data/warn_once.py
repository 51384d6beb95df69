"""Warnings of which one is enough: a run opens the same folder several times."""

import functools
import logging

_log = logging.getLogger(__name__)


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning, unless this process has logged the very same."""
    _log.warning(text)
