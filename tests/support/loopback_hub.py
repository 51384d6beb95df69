"""A Hugging Face hub on the loopback interface: the paths and headers that its own client, the real one, asks for."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

LARGE = (".safetensors", ".npz", ".h5", ".keras", ".bin")  # which the hub keeps as LFS objects
COMMIT = hashlib.sha1(b"0").hexdigest()  # before anything is pushed
TOKEN = "hf_loopback"


class Hub(http.server.ThreadingHTTPServer):
    """Serves `repositories` (name -> file -> bytes), some of them `gated` or `private`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.gated, self.private = {}, set(), set()
        self.requests, self.objects, self.commits = [], {}, []

    @property
    def commit(self):
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def allowed(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        if match := re.fullmatch(r"/lfs/(\w+)", path):  # in reality another machine, to which no token is sent
            assert "Authorization" not in self.headers
            return self.answer(200, hub.objects[match[1]])
        if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/tree/([^/]+)", path):
            if self.refused(match[1]):
                return None
            files = hub.repositories[match[1]]
            return self.answer(
                200, [{"type": "file", "path": name, "size": len(files[name]), "oid": "0" * 40} for name in files]
            )
        match = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        if match is None:
            return self.answer(404)
        repository, revision, name = match.groups()
        if self.refused(repository):
            return None
        if revision not in ("main", hub.commit):
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if name not in hub.repositories[repository]:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=hub.commit)
        content = hub.repositories[repository][name]
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            hub.objects.setdefault(digest, content)
            place = f"http://localhost:{hub.server_port}/lfs/{digest}"
            linked = dict(X_Linked_Etag=f'"{digest}"', X_Linked_Size=len(content))
            return self.answer(302, Location=place, X_Repo_Commit=hub.commit, ETag='"pointer"', **linked)
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return self.answer(200, content, X_Repo_Commit=hub.commit, ETag=f'"{digest}"')

    def refused(self, repository):
        """Answers as the hub does where a repository may not be read."""
        hub = self.server
        if repository not in hub.repositories or (repository in hub.private and not self.allowed):
            self.answer(
                401, {"error": "Invalid username or password."}, X_Error_Message="Invalid username or password."
            )
            return True
        if repository in hub.gated and not self.allowed:
            self.answer(401, X_Error_Code="GatedRepo")
            return True
        return False

    def do_PUT(self):
        content = self.body()
        self.server.objects[self.path.rpartition("/")[2]] = content
        self.answer(200)

    def do_POST(self):
        hub, content = self.server, self.body()
        hub.requests.append((self.command, self.path))
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"warnings": [], "errors": []})
        if not self.allowed:
            return self.answer(401, X_Error_Message="Invalid username or password.")
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if name in hub.repositories:
                return self.answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
            hub.repositories[name] = {}
            if asked.get("visibility") == "private" or asked.get("private"):
                hub.private.add(name)
            return self.answer(200, {"url": f"{hub.url}/{name}"})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.url}/upload/{one['oid']}"}}}
                for one in json.loads(content)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        repository, action = re.match(r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit)/", self.path).groups()
        if action == "preupload":
            modes = [
                dict(
                    path=one["path"],
                    uploadMode="lfs" if one["path"].endswith(LARGE) else "regular",
                    shouldIgnore=False,
                )
                for one in json.loads(content)["files"]
            ]
            return self.answer(200, {"files": modes})
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            if line["key"] == "file":
                hub.repositories[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            if line["key"] == "lfsFile":
                hub.repositories[repository][line["value"]["path"]] = hub.objects[line["value"]["oid"]]
        hub.commits.append(lines[0]["value"]["summary"])
        return self.answer(200, {"commitUrl": f"{hub.url}/{repository}/commit/{hub.commit}", "commitOid": hub.commit})


@contextlib.contextmanager
def running():
    """Runs a hub in a thread."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
