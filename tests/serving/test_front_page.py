"""The page that the server shows at `/`. `interop/test_browser.py` uses it."""

import random
import shutil
import subprocess

import pytest
import requests
import stand_in

from keras_mixer.page import page_files

REQUESTS = 1000


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/app.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_its_files_have_their_types(embedded, path, kind):
    answer = requests.get(f"{embedded.url}{path}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert answer.content == page_files()[path.removeprefix("/") or "index.html"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    head = requests.head(f"{embedded.url}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))


def test_its_settings_name_the_models(embedded):
    assert requests.get(f"{embedded.url}/settings.json").json() == {"engine": "server", "models": [stand_in.NAME]}


def test_it_says_that_scores_are_not_finite(tmp_path):
    """The server writes NaN as TF Serving does, but a browser's JSON does not have it."""
    node = shutil.which("node") or pytest.skip("node is not installed")
    for name, content in page_files().items():
        if name.endswith(".js"):
            (tmp_path / name).write_bytes(content)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "visit.js").write_text(
        "import { start } from './engine_server.js';\n"
        'globalThis.fetch = async () => new Response(\'{"predictions": [{"labels": ["a"], "scores": [NaN]}]}\');\n'
        "const photo = { bytes: new Uint8Array(4), bitmap: null };\n"
        "(await start('any')).classify(photo).catch((error) => console.log(error.message));\n"
    )
    visit = subprocess.run([node, tmp_path / "visit.js"], capture_output=True, text=True, timeout=60)
    assert visit.stdout.strip() == "The model's scores of this image are not finite numbers.", visit.stderr


def test_thousand_odd_requests_are_refused(embedded):
    """Of 1,000 addresses near those of the page, none is a fault, and none leads out of the page's files."""
    random_ = random.Random(2105_01601)
    names = {"", *page_files(), "settings.json"}
    parts = [*sorted(names), "..", "%2e%2e", "/", "\\", "%00", "%", "?x", "#y", ".", "app", "é", "v1", "~"]
    with requests.Session() as session:
        for _ in range(REQUESTS):
            path = random_.choice(["", "/"]).join(random_.choices(parts, k=random_.randint(1, 4)))
            method = random_.choice(["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"])
            answer = session.request(method, f"{embedded.url}/{path}", data=random_.randbytes(20))
            name = answer.request.path_url.split("?")[0][1:]  # without what the client resolves and leaves out
            if method in ("GET", "HEAD") and name in names:
                assert answer.status_code == 200, (method, path)
            else:
                assert answer.status_code in (400, 404), (method, path, answer.text)
