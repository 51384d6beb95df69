"""The record of a file format: how to write and open a model, and how much accuracy the format may cost."""

import dataclasses
import pathlib
from collections.abc import Callable

from keras_mixer.artefacts.predictor import Predictor, Scores
from keras_mixer.card import CARD_FILE
from keras_mixer.extras import require

Write = Callable[..., pathlib.Path]
Open = Callable[[pathlib.Path, int | None], Scores]

FLOAT_LIMIT = 0.1


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of exported models.

    Args:
        name: The format's name, as in `keras-mixer export --formats NAME`.
        file: The file's name in the model's folder. An empty name means a folder of numbered versions.
        write: Function that writes a model and returns the path of what it wrote. The arguments are the model, the
            path, the model's card and, for a calibrated format, preprocessed sample images.
        open: Function that opens a path and returns a function from images to scores. The second argument is the number
            of CPU threads, or None for the runtime's own choice. If `open` is None, this machine cannot run the format,
            and an export reports the file as not run.
        limit: Percentage points of top-1 accuracy that a file may lose against the Keras model.
        companions: Names of further files beside `file`, such as "{stem}.bin". `{name}` stands for the name of `file`,
            and `{stem}` for its name without the suffix.
        card: Name of the card's file beside `file`, with the same placeholders.
        calibrated: Whether `write` needs sample images.
        settings: Names of further keyword arguments of `write`: `max_pixels` and `webp` for a format that decodes image
            files itself, `batch_size` for a format with a fixed number of images per call, `runtime` for a format that
            ships its runtime.
        needs: Modules that must be installed to run it.
        needs_to_write: Further modules that must be installed to write it.
        install: The command that installs all of these.
        open_by_default: Like `open`, but with the runtime's default settings. Needed only if their results differ.
        embedded_card: Function that returns the text of the card inside a path, or None if there is none.
        min_runtime: Function that returns the oldest version of the runtime that loads a path, such as "2.17.0", or
            None if the file does not say.
    """

    name: str
    file: str
    write: Write
    open: Open | None
    limit: float = FLOAT_LIMIT
    companions: tuple[str, ...] = ()
    card: str = CARD_FILE
    calibrated: bool = False
    settings: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    needs_to_write: tuple[str, ...] = ()
    install: str = ""
    open_by_default: Open | None = None
    embedded_card: Callable[[pathlib.Path], str | None] | None = None
    min_runtime: Callable[[pathlib.Path], str | None] | None = None

    @property
    def suffix(self) -> str:
        """The suffix of the file's name; empty for a folder without a suffix."""
        return pathlib.PurePath(self.file).suffix

    def check_installed(self, *, to_write: bool = False) -> None:
        """Raises ImportError, with the install command, if a package needed to run (or write) the format is missing."""
        modules = (*self.needs_to_write, *self.needs) if to_write else self.needs
        require(*modules, command=self.install, purpose=f"The format {self.name}")

    def opened(self, path: pathlib.Path, threads: int | None = None) -> Predictor:
        """Opens a file of this format.

        Raises:
            ValueError: If the file is damaged, or this machine cannot run the format.
            ImportError: If the runtime is not installed.
        """
        if self.open is None:
            raise ValueError(f"This machine cannot run the format {self.name}: {path} was not opened.")
        self.check_installed()
        try:
            scores = self.open(path, threads)
        except ImportError:
            raise
        except Exception as error:  # the errors of runtimes share no public base class
            raise ValueError(f"{path} cannot be opened as {self.name}: {error}") from error
        return Predictor(self.name, scores, path, self.size(path))

    def parts(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Returns `path` and those of its companions that exist."""
        return [path, *(file for name in self.companions if (file := _beside(path, name)).is_file())]

    def size(self, path: pathlib.Path) -> int:
        """Returns the size in bytes of `path`, which may be a folder, and its companions."""
        return sum(file.stat().st_size for part in self.parts(path) for file in files_in(part))

    def card_of(self, path: pathlib.Path) -> pathlib.Path:
        """Returns where the card of the model at `path` is expected."""
        return _beside(path, self.card) if self.file else path / "assets" / CARD_FILE


def files_in(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns a file itself, or all files in a folder."""
    return [file for file in (path, *sorted(path.rglob("*"))) if file.is_file()]


def check_suffix(path: pathlib.Path, suffix: str) -> None:
    """Raises a ValueError unless the file's name ends in `suffix`."""
    if path.suffix != suffix:
        raise ValueError(f"The file's name must end in {suffix}, but got {path.name!r}.")


def _beside(path: pathlib.Path, name: str) -> pathlib.Path:
    return path.with_name(name.format(stem=path.stem, name=path.name))
