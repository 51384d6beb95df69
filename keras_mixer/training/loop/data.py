"""The data of a recipe: sources, the training stream (which can start at any step), and evaluation batches."""

import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixer.card import ModelCard
from keras_mixer.data import CorruptImages, CorruptImagesError, Source, evaluation_batches, training_batches
from keras_mixer.data.arrays import MEMORY_LIMIT
from keras_mixer.data.batches import local_batch, naming_all
from keras_mixer.data.examination import headers
from keras_mixer.data.sources import open_source
from keras_mixer.data.sources.folder import paths_of
from keras_mixer.data.sources.layout import TRAIN, FolderLayout, scan
from keras_mixer.extras import installed, require
from keras_mixer.listing import printable
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.training.defaults import check_classes, check_length, choose_splits, suit
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.loop.run_folder import images_of_start
from keras_mixer.training.network import input_preprocessing
from keras_mixer.training.recipe import PIPELINES, Recipe, ScheduleSpec

if TYPE_CHECKING:
    from keras_mixer.data.device import DeviceStream

_log = logging.getLogger(__name__)
NAMED = 50  # classes listed in a message


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The data of a run, and the numbers of steps that follow from it."""

    recipe: Recipe
    distribution: Distribution
    train_source: Source
    eval_source: Source
    test_source: Source | None
    preprocessing: Preprocessing
    corrupt: CorruptImages  # counts the unreadable images of all sources
    chosen: str  # a sentence about what was chosen by the number of images, or an empty string

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return self.train_source.class_names

    @property
    def steps_per_epoch(self) -> float:
        """Updates in one pass over the training split; may be a fraction."""
        return self.train_source.num_examples / self.recipe.batch_size

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.length(self.recipe.schedule)

    def length(self, schedule: ScheduleSpec) -> int:
        """Returns the updates of a run of this schedule."""
        if schedule.epochs is not None:
            return max(1, round(schedule.epochs * self.steps_per_epoch))
        return int(schedule.steps or 0)

    def cooldown_start(self, schedule: ScheduleSpec) -> int | None:
        """Returns after which update the cooldown of a schedule begins; None without one."""
        return self.length(schedule) - schedule.cooldown_steps if schedule.cooldown_steps else None

    @property
    def period(self) -> int:
        """Updates between two evaluations."""
        return min(self.recipe.eval_steps or max(1, round(self.steps_per_epoch)), self.total_steps)

    @property
    def read_in_order(self) -> bool:
        """Whether the training images do not fit in memory and are in files that must be read from the start."""
        if self.recipe.execution.pipeline == "device":
            return False
        from keras_mixer.data.storage import random_access

        return random_access(self.train_source, self.preprocessing, self.corrupt) is None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources for training, evaluation and, if there is a test split, the test."""
        return tuple(filter(None, (self.train_source, self.eval_source, self.test_source)))

    @property
    def listing(self) -> dict | None:
        """The list of files in a folder, which a run saves; None for another dataset."""
        layout = self.train_source.layout
        return None if layout is None else layout.listing()

    @property
    def class_counts(self) -> list[int]:
        """The number of training images of each class."""
        return np.bincount(self.train_source.labels, minlength=len(self.class_names)).tolist()

    def readable(self, source: Source) -> int:
        """Returns the number of images of a source, without those that were found unreadable so far."""
        count, found = source.num_examples, set(self.corrupt.found)
        return count - (sum(source.location(index) in found for index in range(count)) if found else 0)

    def plan(self) -> str:
        """Returns what the run reads and what it does not use, in a few lines."""
        data, layout = self.recipe.data, self.train_source.layout
        parts = [
            f"training on {data.train_split} ({self.train_source.num_examples:,} images)",
            f"evaluation on {data.eval_split} ({self.eval_source.num_examples:,})",
        ]
        if self.test_source is not None:
            parts.append(f"at the end on {data.test_split} ({self.test_source.num_examples:,})")
        lines = [f"{printable(data.name)}: {len(self.class_names):,} classes; {', '.join(parts)}."]
        if layout is not None:
            counts = [f"{name} {count:,}" for name, count in zip(self.class_names, self.class_counts, strict=True)]
            lines.append(f"Training images: {', '.join(counts[:NAMED])}{', ...' if len(counts) > NAMED else ''}.")
            lines.append(headers(layout))
            used = layout.named("+".join(source.spec.split for source in self.sources))
            unused = [f"{name} ({size:,} images)" for name, size in layout.sizes.items() if name not in used]
            lines += [f"Not used: {', '.join(unused)}."] if unused else []
            if layout.gone:
                lines.append(f"{len(layout.gone):,} images that the run began with are gone and are left out.")
            if layout.added:
                lines.append(
                    f"{layout.added:,} images that are new since the run began are not used. To train on them: "
                    f"--weights RUN --output NEW."
                )
        return "\n".join([*lines, *filter(None, [self.chosen])])

    def check(self) -> None:
        """Raises ValueError if the data are unsuited to training by the recipe."""
        check_classes(self.train_source)
        check_length(self.recipe, self.train_source.num_examples, self.total_steps)

    def all_unreadable(self, error: CorruptImagesError) -> CorruptImagesError:
        """Returns an error that names all unreadable images, not only the one that stopped the run."""
        return naming_all(error, self.corrupt, self.sources, self.preprocessing, "--set data.corrupt_limit=")

    @property
    def fingerprint(self) -> dict:
        """Returns as JSON what must stay the same so that the run can be resumed."""
        return {"examples": self.train_source.num_examples, "classes": list(self.class_names)}

    def card(self, name: str, folder: str | os.PathLike) -> ModelCard:
        """Returns the card of a model trained on this data, in a run folder that holds the list of its images."""
        spec = (self.test_source or self.eval_source).spec
        files = None if self.listing is None else os.path.abspath(folder)
        return ModelCard(name, self.class_names, self.preprocessing, dataclasses.replace(spec, files=files))

    @functools.cached_property
    def device_stream(self) -> "DeviceStream | None":
        """The training stream if the device augments it, with the images if they fit in its memory; else None."""
        if self.recipe.execution.pipeline != "device":
            return None
        from keras_mixer.data import device

        given = (self.train_source, self.preprocessing, self.recipe.augmentation)
        size, seed = self.recipe.batch_size, self.recipe.seed
        part = (self.distribution.workers, self.distribution.worker)
        local_batch(size, *part, self.recipe.augmentation)
        in_memory = device.load_into_memory(*given, self.corrupt)
        sizes = self.distribution.of_each_process(0 if in_memory is None else len(in_memory["label"]))
        if 0 in sizes:
            in_memory = None
        elif len(set(sizes)) > 1:
            raise ValueError(
                f"The processes must train on the same images, but they can read {', '.join(map(str, sizes))} of "
                f"{self.recipe.data.name}: give all of them the same files."
            )
        return device.DeviceStream(*given, size, seed, self.corrupt, in_memory, *part)

    def training(self, start: int):
        """Returns the endless stream of this process's batches from update `start` on."""
        if self.device_stream is not None:
            return self.device_stream.batches(start)
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

        The batch size is the recipe's, or the size of a smaller source, rounded up to a multiple of the number of
        devices. Examples of weight 0 fill up the last batch.
        """
        wanted = min(self.recipe.eval_batch_size, source.num_examples)
        size = -(-wanted // self.distribution.replicas) * self.distribution.replicas
        batches = evaluation_batches(source, self.preprocessing, size, one_hot=True, pad=True, corrupt=self.corrupt)
        return self.distribution.distribute(self.distribution.share(batches)), -(-source.num_examples // size)


def open_datasets(
    recipe: Recipe, distribution: Distribution, listing: dict | None = None, pipeline: str | None = None
) -> Datasets:
    """Opens the splits of a recipe's dataset and chooses what the recipe leaves open.

    Args:
        recipe: The recipe.
        distribution: The devices.
        listing: The list of files that an earlier process of the same run saved.
        pipeline: The pipeline that this process used.

    Raises:
        ValueError: If a split is missing or empty, or the backend does not have the pipeline.
        ImportError: If the pipeline or the dataset needs TensorFlow, and it is not installed.
    """
    layout = None
    trained: Set[str] = frozenset()
    if recipe.data.of(TRAIN).is_folder:
        layout = scan(recipe.data.name)
        if listing:
            layout = layout.kept(listing)
        else:
            trained, held = images_of_start(recipe, layout)
            layout = layout.arranged(trained, held)
    data = choose_splits(recipe.data, layout)

    def source(split: str, *, replace_gone: bool = False, in_numpy: bool | None = None) -> Source:
        if in_numpy is None:
            in_numpy = recipe.execution.pipeline == "device"
        return open_source(data.of(split), layout, replace_gone=replace_gone, in_numpy=in_numpy)

    def fits() -> bool:
        from keras_mixer.data import device

        given = source(data.train_split, in_numpy=True)
        whole, limit = given.image_shape, device.memory_limit()
        shape = whole if recipe.augmentation.crop == "inception" else recipe.preprocessing.input_shape
        bounds = (
            [(shape, limit)] if given.in_numpy else [(shape, limit), (whole, MEMORY_LIMIT)]
        )  # TFDS decodes all first
        return all(size is not None and given.num_examples * math.prod(size) <= most for size, most in bounds)

    execution = recipe.execution
    if execution.pipeline == "auto":
        execution = dataclasses.replace(execution, pipeline=pipeline or _usual_pipeline(distribution, fits))
    kept = execution.pipeline == pipeline
    chosen_by = f"execution.pipeline={execution.pipeline}{', with which the run began,' * kept}"
    if execution.pipeline == "host":
        require("tensorflow", extra="tensorflow", purpose=chosen_by)
    elif keras.backend.backend() != "jax":
        raise ValueError(
            f"{chosen_by} augments inside the compiled step of JAX: set KERAS_BACKEND=jax"
            f"{'' if kept else ', or execution.pipeline=host'}."
        )
    if len(set(distribution.of_each_process(PIPELINES.index(execution.pipeline)))) > 1:
        raise ValueError(
            "The processes of a cluster would augment in different places: give all of them the same output folder on "
            "storage that they share, or set execution.pipeline."
        )
    recipe = dataclasses.replace(recipe, execution=execution)
    train_source = source(data.train_split, replace_gone=True)
    multiple = distribution.replicas * recipe.execution.micro_batches
    recipe, chosen = suit(dataclasses.replace(recipe, data=data), train_source.num_examples, multiple)
    datasets = Datasets(
        recipe,
        distribution,
        preprocessing=input_preprocessing(recipe),
        train_source=train_source,
        eval_source=source(data.eval_split),
        test_source=None if data.test_split is None else source(data.test_split),
        corrupt=CorruptImages(data.corrupt_limit, data.max_pixels),
        chosen=chosen,
    )
    if layout is not None:
        _warn_of_trained(datasets, layout, trained)
    return datasets


def _warn_of_trained(datasets: Datasets, layout: FolderLayout, trained: Set[str]) -> None:
    for source in datasets.sources[1:]:
        if seen := len(trained & set(paths_of(source.spec.split, layout))):
            _log.warning(
                "%s trained on %d of the %d images of the split %s, so the accuracy on it will be too high.",
                datasets.recipe.model.weights,
                seen,
                source.num_examples,
                source.spec.split,
            )


def _usual_pipeline(distribution: Distribution, fits: Callable[[], bool]) -> str:
    if keras.backend.backend() != "jax":
        return "host"
    if not installed("tensorflow"):
        return "device"
    return "device" if distribution.accelerated and fits() else "host"
