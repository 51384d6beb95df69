"""The web page that shows what a classifier sees: one page for a folder to host and for the embedded server.

`files/index.html` is where to begin reading. The page asks `settings.json` in its own folder which engine classifies:
"litert" runs the model in the browser, "server" asks the server that the page came from.
"""

import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping

SETTINGS_FILE = "settings.json"
# What a host must send for the browser to run scripts and WebAssembly.
CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}


@functools.cache
def page_files() -> Mapping[str, bytes]:
    """Returns the files of the page by name, all but `settings.json`."""
    folder = importlib.resources.files(__name__) / "files"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def settings(engine: str, models: Iterable[str]) -> bytes:
    """Writes `settings.json`.

    Args:
        engine: "litert" or "server".
        models: Names of the models that the visitor chooses from.
    """
    return json.dumps({"engine": engine, "models": list(models)}).encode()
