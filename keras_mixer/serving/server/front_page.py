"""The server's front page, which asks the server itself: `keras_mixer.page` at `/`, for the models that are served."""

import pathlib
from collections.abc import Iterable

from aiohttp import web

from keras_mixer.page import CONTENT_TYPES, SETTINGS_FILE, page_files, settings

_INDEX = "index.html"
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page's own policy cannot say this
    "X-Content-Type-Options": "nosniff",
}


def answer(path: str, models: Iterable[str]) -> web.Response | None:
    """Returns the file of the front page at a path of the server; None if there is none.

    Args:
        path: The path of the address, such as "/" or "/app.js".
        models: Names of the models that are served.
    """
    name = path.removeprefix("/") or _INDEX
    content = settings("server", models) if name == SETTINGS_FILE else page_files().get(name)
    if content is None:
        return None
    kind = CONTENT_TYPES[pathlib.PurePath(name).suffix]
    return web.Response(body=content, content_type=kind, charset="utf-8", headers=_HEADERS)
