"""The data of a recipe: sources, the training stream from any step on, and evaluation batches."""

import dataclasses

from keras_mixer.card import ModelCard
from keras_mixer.data import CorruptImages, Source, evaluation_batches, load, training_batches
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.network import input_preprocessing
from keras_mixer.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The data of a run, and the lengths that follow from it."""

    recipe: Recipe
    distribution: Distribution
    train_source: Source
    eval_source: Source
    test_source: Source | None
    preprocessing: Preprocessing
    corrupt: CorruptImages  # counts the unreadable images of all sources

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return self.train_source.class_names

    @property
    def steps_per_epoch(self) -> float:
        """Updates that take as many examples as the training split has."""
        return self.train_source.num_examples / self.recipe.batch_size

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        epochs, steps = self.recipe.schedule.epochs, self.recipe.schedule.steps
        return max(1, round(epochs * self.steps_per_epoch)) if epochs is not None else int(steps or 0)

    @property
    def period(self) -> int:
        """Updates between two evaluations."""
        return min(self.recipe.eval_steps or max(1, round(self.steps_per_epoch)), self.total_steps)

    @property
    def read_in_order(self) -> bool:
        """Whether the training images do not fit in memory and are in files that must be read from the start."""
        from keras_mixer.data.storage import random_access

        return random_access(self.train_source, self.preprocessing, self.corrupt) is None

    @property
    def fingerprint(self) -> dict:
        """Facts that must stay the same if a run is to go on, as JSON."""
        return {"examples": self.train_source.num_examples, "classes": list(self.class_names)}

    def card(self, name: str) -> ModelCard:
        """Returns the card of a model trained on this data."""
        return ModelCard(name, self.class_names, self.preprocessing, (self.test_source or self.eval_source).spec)

    def training(self, start: int):
        """Returns the endless stream of this process's batches from update `start` on."""
        batches = training_batches(
            self.train_source,
            self.preprocessing,
            self.recipe.augmentation,
            self.recipe.batch_size,
            seed=self.recipe.seed,
            start_step=start,
            num_shards=self.distribution.workers,
            shard_index=self.distribution.worker,
            corrupt=self.corrupt,
        )
        return self.distribution.distribute(batches)

    def evaluation(self, source: Source):
        """Returns evaluation batches `(images, one-hot labels, weights)` of one size, and their number.

        The size is that of the recipe or of the whole source, rounded up to a multiple of the number of devices.
        Examples of weight 0 fill up the last batch.
        """
        wanted = min(self.recipe.eval_batch_size, source.num_examples)
        size = -(-wanted // self.distribution.replicas) * self.distribution.replicas
        batches = evaluation_batches(source, self.preprocessing, size, one_hot=True, pad=True, corrupt=self.corrupt)
        return self.distribution.distribute(self.distribution.share(batches)), -(-source.num_examples // size)


def open_datasets(recipe: Recipe, distribution: Distribution) -> Datasets:
    """Opens the splits of a recipe's dataset, or raises ValueError if one is missing or empty."""
    data = recipe.data
    return Datasets(
        recipe,
        distribution,
        preprocessing=input_preprocessing(recipe),
        train_source=load(data.of(data.train_split)),
        eval_source=load(data.of(data.eval_split)),
        test_source=None if data.test_split is None else load(data.of(data.test_split)),
        corrupt=CorruptImages(data.corrupt_limit, data.max_pixels),
    )
