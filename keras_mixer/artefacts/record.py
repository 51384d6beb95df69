"""The record of a file format: how a model is written in it, opened from it, and how much accuracy it may cost."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts.predictor import Predictor, Scores
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.extras import require

if TYPE_CHECKING:
    import keras

# Writes a model to a path, given its card and, for a format that is calibrated, preprocessed sample images.
# Returns the path of what it wrote.
Write = Callable[["keras.Model", pathlib.Path, ModelCard, np.ndarray | None], pathlib.Path]
# Opens a path with a number of CPU threads; None leaves the number to the runtime.
Open = Callable[[pathlib.Path, int | None], Scores]

FLOAT_LIMIT = 0.1


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of exported models.

    Args:
        name: The format's name, as in `keras-mixer export --formats NAME`.
        file: The file's name in the model's folder. An empty name stands for a folder of numbered versions.
        write: Writes a model to a path, and returns the path of what it wrote.
        open: Opens what was written; None if it cannot run on this machine. An export then reports it as not run.
        limit: Points of top-1 accuracy, out of a hundred, that it may lose against the Keras model.
        companions: Files that belong to `file` and lie beside it, where `{stem}` and `{name}` stand for parts of its
            name, such as "{stem}.bin".
        card: The file of the model's card, beside `file` and written likewise.
        calibrated: Whether `write` needs sample images.
        needs: Modules that must be installed to run it.
        needs_to_write: Further modules that must be installed to write it.
        install: The command that installs all of these.
    """

    name: str
    file: str
    write: Write
    open: Open | None
    limit: float = FLOAT_LIMIT
    companions: tuple[str, ...] = ()
    card: str = CARD_FILE
    calibrated: bool = False
    needs: tuple[str, ...] = ()
    needs_to_write: tuple[str, ...] = ()
    install: str = ""

    @property
    def suffix(self) -> str:
        """The suffix of the file's name; empty for a folder of versions."""
        return pathlib.PurePath(self.file).suffix

    def check_installed(self, *, to_write: bool = False) -> None:
        """Raises an ImportError with the command that installs what is missing to run it, or also to write it."""
        modules = (*self.needs_to_write, *self.needs) if to_write else self.needs
        require(*modules, command=self.install, purpose=f"The format {self.name}")

    def opened(self, path: pathlib.Path, threads: int | None = None) -> Predictor:
        """Opens a file of this format.

        Raises:
            ValueError: If the file is damaged, or this machine cannot run the format.
            ImportError: If the runtime is not installed.
        """
        if self.open is None:
            raise ValueError(f"This machine cannot run the format {self.name}: {path} is not opened.")
        self.check_installed()
        scores = self.open(path, threads)
        return Predictor(self.name, scores, path, self.size(path))

    def parts(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Returns `path` and those of its companions that are there."""
        return [path, *(file for name in self.companions if (file := _beside(path, name)).is_file())]

    def size(self, path: pathlib.Path) -> int:
        """Returns the bytes of `path`, a file or a folder, and its companions."""
        files = [file for part in self.parts(path) for file in ([part] if part.is_file() else part.rglob("*"))]
        return sum(file.stat().st_size for file in files if file.is_file())

    def card_of(self, path: pathlib.Path) -> pathlib.Path:
        """Returns where the card of the model at `path` is expected."""
        return _beside(path, self.card) if self.file else path / "assets" / CARD_FILE


def _beside(path: pathlib.Path, name: str) -> pathlib.Path:
    return path.with_name(name.format(stem=path.stem, name=path.name))
