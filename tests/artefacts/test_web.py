"""The folder of the web page, and where its runtime comes from. `interop/test_browser.py` opens it in a browser."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import tarfile

import digit_models
import mirror
import pytest

from keras_mixer.artefacts import export_web, open_artefact, web
from keras_mixer.card import ModelCard
from keras_mixer.cli.main import main
from keras_mixer.export import export
from keras_mixer.page import page_files
from keras_mixer.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures("litert_once")


@pytest.fixture(scope="module")
def model():
    return digit_models.untrained()


@pytest.fixture
def card(tmp_path):
    return dataclasses.replace(digit_models.card(tmp_path), dataset=None)


@pytest.fixture
def archives(monkeypatch):
    """Small archives in the places of npm's, by the paths of their addresses."""
    files, packages = {}, []
    for package in web.RUNTIME:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for name in (*package.files, "dist/unused.js"):
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(name)
                archive.addfile(entry, io.BytesIO(name.encode()))
        path = package.url.removeprefix(web.REGISTRY)
        files[path] = content.getvalue()
        packages.append(package._replace(sha256=hashlib.sha256(files[path]).hexdigest()))
    monkeypatch.setattr(web, "RUNTIME", tuple(packages))
    return files


@pytest.fixture
def registry(archives, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    with mirror.running() as running:
        running.files.update(archives)
        monkeypatch.setenv(web.MIRROR_VARIABLE, running.url)
        yield running


@pytest.fixture
def installed(tmp_path):
    """The folder that `npm install` leaves."""
    folder = tmp_path / "node_modules" / "@litertjs"
    for package in web.RUNTIME:
        for name in (*package.files, "dist/unused.js"):
            (folder / package.name / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / package.name / name).write_text(name)
    return folder


def test_the_folder_has_the_page_the_model_and_the_runtime(model, card, installed, tmp_path):
    folder = export_web(model, tmp_path / "page", card, runtime=installed)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    runtime = {f"runtime/{package.name}/{name}" for package in web.RUNTIME for name in package.files}
    assert found == runtime | set(page_files()) | {"runtime/LICENSE", "model.tflite", "model.json", "settings.json"}
    assert "Apache License" in (folder / "runtime" / "LICENSE").read_text()
    assert json.loads((folder / "settings.json").read_text()) == {"engine": "litert", "models": ["digits"]}
    assert ModelCard.load(folder / "model.json") == card.for_others()
    images = digit_models.random_images(1)
    scores = open_artefact(folder / "model.tflite").scores(images)
    assert scores == pytest.approx(model.predict(images, verbose=0), abs=1e-5)


def test_an_export_says_that_it_was_not_run_and_replaces_the_folder(model, card, installed, tmp_path):
    (tmp_path / "digits" / "web").mkdir(parents=True)
    (tmp_path / "digits" / "web" / "old.js").touch()
    card.save(tmp_path / "digits" / "model.json")
    (tmp_path / "digits" / "report.json").touch()  # so an export made the folder
    report = export(model, card, tmp_path / "digits", ["web"], limit=1, runtime=installed)
    (row,) = report.rows[1:]
    assert (row.artefact, row.file, row.note) == ("web", "web", "not run here")
    assert row.bytes > 10_000
    assert not (tmp_path / "digits" / "web" / "old.js").exists()
    assert (tmp_path / "digits" / "web" / "index.html").is_file()


def test_the_runtime_is_fetched_once(registry, archives, tmp_path):
    for name in ("first", "second"):
        web.write_runtime(tmp_path / name)
        assert (tmp_path / name / "core" / "dist" / "index.js").read_text() == "dist/index.js"
        assert not (tmp_path / name / "core" / "dist" / "unused.js").exists()
    assert registry.requests == list(archives)


def test_other_bytes_are_refused_and_not_kept(registry, archives, tmp_path):
    for path in archives:
        registry.files[path] = b"other bytes"
    with pytest.raises(OSError, match=rf"sha256 should be .*{web.MIRROR_VARIABLE}"):
        web.write_runtime(tmp_path / "runtime")
    assert list((tmp_path / "keras_home" / "keras_mixer").iterdir()) == []
    assert not (tmp_path / "runtime").exists()


def test_a_changed_file_of_the_cache_is_refused(registry, tmp_path):
    web.write_runtime(tmp_path / "runtime")
    (archive,) = (tmp_path / "keras_home" / "keras_mixer").glob("litertjs-core-*.tgz")
    archive.write_bytes(b"other bytes")
    with pytest.raises(ValueError, match=f"but {web.RUNTIME[0].sha256} was expected. Delete it to fetch it again"):
        web.write_runtime(tmp_path / "again")
    archive.unlink()
    web.write_runtime(tmp_path / "again")


def test_offline_one_line_of_the_command_says_what_to_do(card, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    monkeypatch.setenv(web.MIRROR_VARIABLE, "http://127.0.0.1:9")
    run = digit_models.write_run(tmp_path / "digits")
    card.save(run / "model.json")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run), "--formats", "web", "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "Could not download http://127.0.0.1:9/@litertjs/core/-/core-" in line
    assert web.MIRROR_VARIABLE in line
    assert not (tmp_path / "out" / "digits" / "web").exists()


def test_an_incomplete_runtime_is_named(installed, tmp_path):
    (installed / "core" / "dist" / "index.js").unlink()
    with pytest.raises(ValueError, match=r"there is no .*index\.js\. Run `npm install @litertjs/core@[\d.]+`"):
        web.write_runtime(tmp_path / "runtime", installed)


def test_a_model_of_other_channels_is_refused(model, tmp_path):
    card = ModelCard("many", tuple("0123456789"), Preprocessing((8, 8), channels=4))
    with pytest.raises(ValueError, match="grey or RGB images, but the model takes 4 channels"):
        export_web(model, tmp_path / "page", card)


def test_the_policy_allows_the_import_map():
    page = page_files()["index.html"].decode()
    (import_map,) = re.findall(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()}'" in page
    runtime = {f"./runtime/{package.name}/{name}" for package in web.RUNTIME for name in package.files}
    assert set(json.loads(import_map)["imports"].values()) <= runtime


def test_the_page_asks_nobody_else():
    runtime = {f"runtime/{package.name}/{name}" for package in web.RUNTIME for name in package.files}
    known = set(page_files()) | runtime
    for name, content in page_files().items():
        text = content.decode()
        assert set(re.findall(r"(?:https?:)?//[a-z][\w.]+", text)) <= {"http://www.w3.org"}, name  # a namespace
        for imported in re.findall(r'(?:from |import\()"\./([^"]+)"', text):
            assert imported in known, (name, imported)
