"""The data of a recipe: sources, the training stream from any step, and evaluation batches."""

import dataclasses
import functools

from keras_mixer.data import (
    Augmentation,
    CorruptImages,
    DatasetSpec,
    ModelCard,
    Preprocessing,
    Source,
    evaluation_batches,
    load,
    training_batches,
)
from keras_mixer.data.storage import random_access
from keras_mixer.training.distribution import Distribution
from keras_mixer.training.network import input_preprocessing
from keras_mixer.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The training and evaluation data of a run, and the lengths that follow from them.

    Attributes:
        recipe: The recipe.
        distribution: The devices.
        train_source: The labelled training images.
        eval_source: The labelled evaluation images.
        preprocessing: What the model expects.
        augmentation: How training images vary.
        corrupt: Counts the images of both that cannot be read.
    """

    recipe: Recipe
    distribution: Distribution
    train_source: Source
    eval_source: Source
    preprocessing: Preprocessing
    augmentation: Augmentation
    corrupt: CorruptImages

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return self.train_source.class_names

    @property
    def steps_per_epoch(self) -> float:
        """Updates in which as many examples are seen as the training split has."""
        return self.train_source.num_examples / self.recipe.batch_size

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        schedule = self.recipe.schedule
        if schedule.epochs is not None:
            return max(1, round(schedule.epochs * self.steps_per_epoch))
        assert schedule.steps is not None  # one of the two is set
        return schedule.steps

    @property
    def period(self) -> int:
        """Updates between two evaluations."""
        return min(self.recipe.eval_steps or max(1, round(self.steps_per_epoch)), self.total_steps)

    @property
    def eval_batch_size(self) -> int:
        """The recipe's or the whole split, and up to a number that gives each device as many: the last is filled up."""
        wanted = min(self.recipe.eval_batch_size, self.eval_source.num_examples)
        return -(-wanted // self.distribution.replicas) * self.distribution.replicas

    @property
    def evaluation_steps(self) -> int:
        """Batches in one pass over the evaluation split, the last one filled up."""
        return -(-self.eval_source.num_examples // self.eval_batch_size)

    @property
    def read_in_order(self) -> bool:
        """Whether the training images are too many for memory and in files that must be read from their start."""
        return random_access(self.train_source, self.preprocessing, self.corrupt) is None

    @functools.cached_property
    def fingerprint(self) -> dict:
        """What must stay as it is for a run to go on: as JSON."""
        return {"examples": self.train_source.num_examples, "classes": list(self.class_names)}

    def card(self, name: str) -> ModelCard:
        """The card of a model trained on this data."""
        return ModelCard(
            name=name, class_names=self.class_names, preprocessing=self.preprocessing, dataset=self.eval_source.spec
        )

    def training(self, start: int):
        """The endless stream of batches from that of update `start` on; of several processes, this one's share."""
        batches = training_batches(
            self.train_source,
            self.preprocessing,
            self.augmentation,
            self.recipe.batch_size,
            seed=self.recipe.seed,
            start_step=start,
            num_shards=self.distribution.workers,
            shard_index=self.distribution.worker,
            corrupt=self.corrupt,
        )
        return self.distribution.distribute(batches)

    def evaluation(self):
        """Evaluation batches `(images, one-hot labels, weights)`, all of one size: what is added has weight 0."""
        batches = evaluation_batches(
            self.eval_source,
            self.preprocessing,
            self.eval_batch_size,
            one_hot=True,
            pad=True,
            corrupt=self.corrupt,
        )
        return self.distribution.distribute(self.distribution.share(batches))


def open_datasets(recipe: Recipe, distribution: Distribution) -> Datasets:
    """Opens the sources of a recipe: two splits of one dataset, which have the same classes.

    Raises:
        ValueError: If a dataset, split or label does not exist, a split is empty, or a setting of the augmentation is
            out of range.
    """
    data, model = recipe.data, recipe.model
    augmentation = Augmentation(**dataclasses.asdict(recipe.augmentation))
    spec = DatasetSpec(data.dataset, data.train_split, data.data_dir, data.label_key)
    train_source = load(spec)
    eval_source = load(dataclasses.replace(spec, split=data.eval_split))
    recipes_own = {"image_size": model.image_size, "channels": model.channels, "resize": data.resize}
    preprocessing = Preprocessing(**dataclasses.asdict(input_preprocessing(model)) | recipes_own)
    return Datasets(
        recipe, distribution, train_source, eval_source, preprocessing, augmentation, CorruptImages(data.corrupt_limit)
    )
