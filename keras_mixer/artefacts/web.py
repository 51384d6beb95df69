"""A web page that runs the model in the visitor's browser: a static folder for any web server.

The folder holds the page (`keras_mixer.page`), the model as a LiteRT file with its card, and LiteRT.js, which comes
from npm's registry at the first export.
"""

import os
import pathlib
import shutil
import tarfile
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from keras_mixer.artefacts.litert import LITERT
from keras_mixer.artefacts.record import Format
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.download import cached_file
from keras_mixer.files import scratch_folder
from keras_mixer.page import SETTINGS_FILE, page_files, settings

if TYPE_CHECKING:
    import keras

REGISTRY, MIRROR_VARIABLE = "https://registry.npmjs.org", "KERAS_MIXER_NPM_REGISTRY"
MODEL_FILE, RUNTIME_FOLDER, LICENSE_FILE = "model.tflite", "runtime", "LICENSE-APACHE-2.0.txt"


class NpmPackage(NamedTuple):
    """A package of LiteRT.js: the folder under `@litertjs`, the sha256 of its archive, and the files that are used."""

    name: str
    sha256: str
    files: tuple[str, ...]

    @property
    def archive(self) -> str:
        """The name of the archive."""
        return f"{self.name}-{VERSION}.tgz"

    @property
    def url(self) -> str:
        """Where the archive is published."""
        return f"{REGISTRY}/@litertjs/{self.name}/-/{self.archive}"


VERSION = "2.5.3"
# The three builds: for current browsers, for those without relaxed SIMD, and with threads, for isolated pages.
_BUILDS = ("", "_compat", "_threaded")
RUNTIME = (
    NpmPackage(
        "core",
        "a97660833e9e7e1063c95e12016718881240b14f7438728a2f62785e912d30fd",
        (
            *("package.json", "README.md", "dist/index.js"),
            *(f"wasm/litert_wasm{build}_internal.{suffix}" for build in _BUILDS for suffix in ("js", "wasm")),
        ),
    ),
    NpmPackage(
        "wasm-utils",
        "ce2a1f8379c067be49e59752e5a7f40db6be09f6e497f0f11e59f17b515366a7",
        ("package.json", "README.md", "dist/index.js"),
    ),
)


def export_web(
    model: "keras.Model", path: str | os.PathLike, card: ModelCard, *, runtime: str | os.PathLike | None = None
) -> pathlib.Path:
    """Writes a folder with a web page that classifies images in the visitor's browser, and asks no other server.

    Args:
        model: A functional model of one input and one output.
        path: The folder; it is replaced if it exists.
        card: The model's card: class names and preprocessing.
        runtime: The folder `node_modules/@litertjs` that `npm install @litertjs/core` makes. None fetches LiteRT.js
            from npm's registry, or from the mirror in KERAS_MIXER_NPM_REGISTRY, and keeps it in the cache.

    Returns:
        The path.

    Raises:
        ValueError: If the model does not take grey or RGB images, or `runtime` lacks a file.
        ImportError: If TensorFlow is not installed.
        OSError: If LiteRT.js can be neither found in the cache nor fetched.
    """
    path = pathlib.Path(path)
    if card.preprocessing.channels not in (1, 3):
        raise ValueError(
            f"A web page takes grey or RGB images, but the model takes {card.preprocessing.channels} channels."
        )
    with scratch_folder(path.parent) as scratch:
        folder = scratch / path.name
        folder.mkdir()
        write_runtime(folder / RUNTIME_FOLDER, runtime)
        for name, content in page_files().items():
            (folder / name).write_bytes(content)
        (folder / SETTINGS_FILE).write_bytes(settings("litert", [card.name]))
        LITERT[0].write(model, folder / MODEL_FILE, card, None)
        card.for_others().save(folder / CARD_FILE)
        shutil.rmtree(path, ignore_errors=True)  # a folder cannot be replaced in one step
        folder.replace(path)
    return path


def write_runtime(folder: pathlib.Path, source: str | os.PathLike | None = None) -> None:
    """Writes LiteRT.js with its licence into a new folder.

    Args:
        folder: The new folder.
        source: See `export_web`.

    Raises:
        ValueError: If `source` or an archive lacks a file.
        OSError: If an archive can be neither found in the cache nor fetched.
    """
    with tempfile.TemporaryDirectory() as unpacked:
        given = pathlib.Path(source) if source else _fetched(pathlib.Path(unpacked))
        for package in RUNTIME:
            for name in package.files:
                file, target = given / package.name / name, folder / package.name / name
                if not file.is_file():
                    raise ValueError(
                        f"LiteRT.js is incomplete: there is no {file}. Run `npm install @litertjs/core@{VERSION}` and "
                        f"pass its folder node_modules/@litertjs."
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    shutil.copyfile(pathlib.Path(__file__).with_name(LICENSE_FILE), folder / "LICENSE")


def _fetched(folder: pathlib.Path) -> pathlib.Path:
    for package in RUNTIME:
        archive = cached_file(package.url, f"litertjs-{package.archive}", sha256=package.sha256, mirror=MIRROR_VARIABLE)
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        (folder / "package").rename(folder / package.name)  # the folder that every npm archive holds
    return folder


WEB = Format(
    "web",
    "web",
    write=lambda model, path, card, samples, runtime=None: export_web(model, path, card, runtime=runtime),
    open=None,  # it runs in a browser
    settings=("runtime",),
    needs_to_write=LITERT[0].needs,
    install=LITERT[0].install,
)
