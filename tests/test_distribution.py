"""What a package index gets: one build of the source distribution and of the wheel."""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NOT_SOURCES = (
    ".git",
    ".venv",
    "__pycache__",
    "build",
    "dist",
    "runs",
    "*.egg-info",
    "*.pyc",
    ".*_cache",
    ".hypothesis",
)
BUILD = "from setuptools import build_meta as b; b.build_sdist({0!r}); b.build_wheel({0!r})"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the source distribution, the names in the wheel, and the wheel's metadata."""
    folder = tmp_path_factory.mktemp("distribution")
    copy = folder / "source"  # building leaves files beside the sources
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    script = BUILD.format(str(folder))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", script], cwd=copy, env=environment, check=True, capture_output=True)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(source) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = email.message_from_bytes(archive.read(metadata))
        return names, set(archive.namelist()), message


def files(*parts):
    found = {path.relative_to(ROOT) for path in ROOT.joinpath(*parts).rglob("*") if path.is_file()}
    # `make docs` generates the reference.
    return {path.as_posix() for path in found if not {"__pycache__", "generated"} & set(path.parts)}


def test_the_source_distribution_has_all_that_its_tests_need(built):
    names, _, _ = built
    for folder in ("keras_mixer", "tests", "docs", "notebooks", "benchmarks", "tools"):
        assert files(folder) <= names, folder
    assert {"CHANGELOG.md", "README.md", "LICENSE", "CONTRIBUTING.md", "pyproject.toml", "setup.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "runs/"))]


def test_the_wheel_has_the_package_with_its_data_and_nothing_else(built):
    _, names, _ = built
    assert files("keras_mixer") <= names
    assert len([name for name in names if "export/bundle/templates" in name]) == 15
    assert len([name for name in names if "page/files" in name]) == 8
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"keras_mixer"}


def test_links_of_the_description_are_absolute_and_lead_to_files(built):
    _, _, message = built
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert message["Project-URL"] == f"Repository, {urls['Repository']}"
    assert message["Description-Content-Type"] == "text/markdown"
    description = message.get_payload()
    assert description.startswith("# keras_mixer")
    ours = 0
    for link in re.findall(r"\]\(([^)]+)\)", description):
        assert link.startswith("https://"), link
        if path := re.fullmatch(re.escape(urls["Repository"]) + "/(?:blob|raw)/main/(.+)", link):
            assert (ROOT / path[1]).is_file(), link
            ours += 1
    assert ours > 5
