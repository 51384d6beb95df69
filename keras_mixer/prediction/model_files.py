"""The files that make up a classifier on disk: what tells it from another, and what a worker elsewhere needs."""

import hashlib
import os
import pathlib
from collections.abc import Mapping

from keras_mixer.data import ModelCard
from keras_mixer.evaluation import newest_version

_CARD = "model.json"


def model_files(path: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Lists the files that `open_classifier` reads, by name or path within the model's folder, the model itself first.

    Raises:
        ValueError: If there is no model.
    """
    path = pathlib.Path(path).expanduser()
    if (path / "model.keras").is_file():
        path = path / "model.keras"
    if path.is_dir():
        folder = newest_version(path)
        return {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    if not path.is_file():
        raise ValueError(f"There is no model at {path}.")
    card = path.with_name(_CARD)
    beside = {
        ".keras": (path.with_suffix(".json"),),  # its card
        ".xml": (path.with_suffix(".bin"), card),  # weights
        ".onnx": (path.with_name(f"{path.name}.data"), card),  # weights too, of large models
    }
    return {file.name: file for file in (path, *beside.get(path.suffix, (card,))) if file.is_file()}


def check_card(path: str | os.PathLike) -> None:
    """Reads the card among a model's files, and leaves the model itself closed.

    Raises:
        ValueError: If there is no model, or no card that can be read.
    """
    files = model_files(path)
    if "saved_model.pb" in files:
        name = f"assets/{_CARD}"
    else:
        model = next(iter(files.values()))
        name = model.with_suffix(".json").name if model.suffix == ".keras" else _CARD
    if name not in files:
        raise ValueError(f"{path} has no card: expected {name} among its files, as training and export write it.")
    ModelCard.load(files[name])


def fingerprint(path: str | os.PathLike) -> str:
    """The sha256 of a model's files and their names."""
    digest = hashlib.sha256()
    for name, file in sorted(model_files(path).items()):
        with open(file, "rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{name}\n{content}\n".encode())
    return digest.hexdigest()


def packed(path: str | os.PathLike) -> dict[str, bytes]:
    """The content of a model's files, to be sent to another machine."""
    return {name: file.read_bytes() for name, file in model_files(path).items()}


def unpacked(files: Mapping[str, bytes], folder: str | os.PathLike) -> pathlib.Path:
    """Writes what `packed` returned into a folder, and returns the path by which `open_classifier` finds the model."""
    folder = pathlib.Path(folder)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder if "saved_model.pb" in files else folder / next(iter(files))
