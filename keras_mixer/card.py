"""The card of a trained model, a file beside the weights: what the outputs mean and how to make inputs."""

import dataclasses
import os
import pathlib

from keras_mixer.classes import checked_names
from keras_mixer.dataset import FILES_FILE, DatasetSpec
from keras_mixer.fields import JsonRecord
from keras_mixer.files import written_whole
from keras_mixer.preprocessing import Preprocessing

CARD_FILE, RECIPE_FILE = "model.json", "recipe.json"  # of a run folder


@dataclasses.dataclass(frozen=True)
class ModelCard(JsonRecord):
    """What you need to know to use a classifier, besides its weights.

    Args:
        name: Name of the model.
        class_names: Names of the classes, in the order of the outputs. A list or a NumPy array becomes a tuple.
        preprocessing: How an image becomes an input.
        dataset: The split that the model is evaluated on; None if there is none.

    Raises:
        ValueError: If `class_names` is not a sequence of strings, or `preprocessing` is not a `Preprocessing`.
    """

    name: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    dataset: DatasetSpec | None = None

    def __post_init__(self):
        object.__setattr__(self, "class_names", checked_names(self.class_names))
        if not isinstance(self.preprocessing, Preprocessing):
            raise ValueError(
                f"`preprocessing` of a card must be a `keras_mixer.data.Preprocessing`, but got "
                f"{self.preprocessing!r}: say how an image becomes an input of the model."
            )

    def for_others(self) -> "ModelCard":
        """Returns the card without paths of this machine."""
        dataset = self.dataset
        if dataset is not None:
            dataset = None if dataset.is_folder else dataclasses.replace(dataset, data_dir=None)
        return dataclasses.replace(self, dataset=dataset)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the card to `path` atomically."""
        with written_whole(path) as partial:
            partial.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ModelCard":
        """Reads a card file. Its dataset names the list of images beside the card, wherever the run folder is now.

        Raises:
            ValueError: If the file is not a card; the message names the file.
            OSError: If the file cannot be read.
        """
        try:
            card = cls.from_json(pathlib.Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not a model card: {error}") from error
        folder = pathlib.Path(os.path.abspath(path)).parent
        if card.dataset is None or not (folder / FILES_FILE).is_file():
            return card
        return dataclasses.replace(card, dataset=dataclasses.replace(card.dataset, files=str(folder)))


def check_ended(folder: pathlib.Path) -> None:
    """Raises ValueError if a folder without a model is that of a run, which then has not ended."""
    if (folder / RECIPE_FILE).is_file():
        raise ValueError(
            f"The run in {folder} has not ended, so it has no model yet: run its train command again, and it goes on "
            f"from the last checkpoint."
        )
