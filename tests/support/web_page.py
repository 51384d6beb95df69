"""The exported web page and the page of the server in headless Chromium, which the variable CHROMIUM names."""

import contextlib
import functools
import http.server
import os
import pathlib
import re
import threading
from collections.abc import Iterator, Mapping

import pytest

RESULT = re.compile(r" ms (in this browser|on the server)")
READY = "Ready for an image."


@contextlib.contextmanager
def hosted(folder: pathlib.Path, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Hosts a folder as any web server does, and yields its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def chromium():
    """Yields a function that starts headless Chromium with switches; skips the test if CHROMIUM names none."""
    path = os.environ.get("CHROMIUM")
    if not path:
        pytest.skip("not tested in a browser: CHROMIUM does not name one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda *switches: playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *switches])


class Visitor:
    """Someone who uses the page. `requests` lists the addresses that their browser asked for."""

    def __init__(self, browser, address: str, expected: str = READY, **context):
        from playwright.sync_api import expect

        self.expect = expect
        self.page = browser.new_page(**context)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("filechooser", lambda chooser: None)  # from now on, no dialog opens
        self.page.goto(address)
        self.status = self.page.locator("#status")
        self.sees(expected)

    def sees(self, text: str | re.Pattern) -> None:
        """Waits until the status says `text`."""
        self.expect(self.status).to_have_text(text, timeout=30_000)

    def chooses(self, name: str, data: bytes) -> dict[str, float]:
        """Chooses a file, and returns the scores that are shown, by class."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
        self.expect(self.page.locator("#file-name")).to_have_text(name, timeout=30_000)
        self.sees(RESULT)
        return self.scores()

    def scores(self) -> dict[str, float]:
        rows = [row.split("\t") for row in self.page.inner_text("#scores").splitlines()]
        return {name: float(score.removesuffix(" %")) / 100 for name, score in rows}

    def hands_over(self, event: str, name: str, data: bytes) -> None:
        """Drops a file on the page, or pastes it."""
        self.page.evaluate(
            """([event, name, values]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(values)], name));
                const kind = event === "paste" ? ClipboardEvent : DragEvent;
                const init = {bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer};
                document.body.dispatchEvent(new kind(event, init));
            }""",
            [event, name, list(data)],
        )
