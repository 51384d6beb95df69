"""The page that the server shows at `/`. `interop/test_browser.py` uses it."""

import random

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
