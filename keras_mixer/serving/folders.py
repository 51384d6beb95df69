"""The versions in a model's folder: which are there, which are wanted, and whether their files have changed."""

import logging
from pathlib import Path

from keras_mixer.serving.config import ModelConfig

_log = logging.getLogger("keras_mixer.serving")


def versions_in(base_path: Path) -> dict[int, Path]:
    """Version number -> the file that makes its folder a SavedModel."""
    try:
        folders = [folder for folder in base_path.iterdir() if folder.name.isascii() and folder.name.isdigit()]
        files = {int(folder.name): folder / "saved_model.pb" for folder in folders}
        return {number: file for number, file in files.items() if file.is_file()}
    except OSError as error:
        _log.warning("%s cannot be read: %s", base_path, error)
        return {}


def stamp_of(folder: Path) -> frozenset:
    """Names, sizes and times of all files of a version: a slow copy changes them until it is complete."""
    try:
        files = [(str(file), file.stat()) for file in folder.rglob("*")]
    except OSError:  # one has gone since it was listed
        return frozenset()
    return frozenset((name, status.st_size, status.st_mtime_ns) for name, status in files)


def wanted_of(config: ModelConfig, found: dict[int, Path]) -> list[int]:
    """What the policy serves, and every version that has a label: the highest first."""
    numbers = sorted(found, reverse=True)
    policy = {"latest": numbers[:1], "all": numbers}.get(config.versions) if isinstance(config.versions, str) else None
    served = set(config.versions if policy is None else policy) | set(config.labels.values())
    return [number for number in numbers if number in served]
