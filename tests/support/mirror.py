"""A mirror of published files on the loopback interface, with the faults that a network has."""

import base64
import contextlib
import hashlib
import http.server
import ssl
import threading
import time


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `files` (path -> bytes); `faults` (path -> list of faults) are used up one per request."""

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults, self.requests = {}, {}, []
        self.started_slowly = threading.Event()
        self.scheme = "http"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        faults = server.faults.get(self.path)
        fault = faults.pop(0) if faults else None
        if self.path not in server.files or isinstance(fault, int):
            self.send_error(fault or 404)
            return
        content = server.files[self.path]
        if fault and fault.startswith("http"):
            self.send_response(302)
            self.send_header("Location", fault)
            self.end_headers()
            return
        announced = b"other bytes" if fault == "md5" else content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-goog-hash", "crc32c=AAAAAA==")
        self.send_header("x-goog-hash", f"md5={base64.b64encode(hashlib.md5(announced).digest()).decode()}")
        if fault == "etag":
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(b"other bytes").hexdigest()}"')
        self.end_headers()
        if fault == "cut":
            content = content[: len(content) // 2]
        if fault == "slow":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            server.started_slowly.set()
            time.sleep(0.5)
            content = content[len(content) // 2 :]
        self.wfile.write(content)


@contextlib.contextmanager
def running(context: ssl.SSLContext | None = None):
    """Runs a mirror in a thread."""
    mirror = Mirror(context)
    thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.shutdown()
        thread.join()
        mirror.server_close()
