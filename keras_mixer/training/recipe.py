"""Training recipes: frozen dataclasses, their JSON, and overrides by dotted names."""

import dataclasses
import functools
import json
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from keras_mixer.augmentation import Augmentation
from keras_mixer.dataset import DatasetSpec
from keras_mixer.fields import check_types, read
from keras_mixer.hub import is_address
from keras_mixer.images import MAX_PIXELS
from keras_mixer.preprocessing import Preprocessing

PRECISIONS = ("float32", "mixed_bfloat16")
PIPELINES = ("auto", "host", "device")
AUTO = "auto"  # a split that is chosen by the names of the splits that there are
SUITABLE = ("batch_size", "schedule.steps", "schedule.warmup_steps", "ema_momentum")
RATES = ("stochastic_depth", "dropout")  # the only arguments that can change in a trained model
# What numbers must be; None stands for a default and is not checked.
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("at least 0", lambda value: value >= 0, "optimizer.learning_rate optimizer.weight_decay schedule.cooldown_steps"),
    ("above 0", lambda value: value > 0, "optimizer.epsilon schedule.epochs distillation.temperature"),
    ("above 0, or null for no limit", lambda value: value > 0, "optimizer.global_clipnorm"),
    (
        "in [0, 1)",
        lambda value: 0 <= value < 1,
        "optimizer.beta_1 optimizer.beta_2 optimizer.momentum label_smoothing ema_momentum",
    ),
    (
        "at least 1",
        lambda value: value >= 1,
        "batch_size eval_batch_size eval_steps early_stopping schedule.steps execution.micro_batches "
        "execution.steps_per_execution execution.checkpoint_steps execution.checkpoints_kept",
    ),
    ("in [0, 1]", lambda value: 0 <= value <= 1, "distillation.weight"),
    ("from 0 to 2**31 - 1", lambda value: 0 <= value < 2**31, "seed"),
)
# What names must be, and what a message adds.
_CHOICES: dict[str, tuple[tuple[str | None, ...], str]] = {
    "optimizer.name": (("adamw", "muon", "sgd"), ""),
    "schedule.decay": (("linear", "cosine", "constant"), ""),
    "execution.precision": (
        PRECISIONS,
        " float16 would need loss scaling, which is not implemented. bfloat16 weights would not move, because AdamW's "
        "beta_2 of 0.999 rounds to 1.",
    ),
    "execution.pipeline": (PIPELINES, ""),
    "class_weights": (("balanced", None), ""),
}
# Names of version 0.1 -> present names.
_MOVED = {
    "data.dataset": "data.name",
    "data.resize": "preprocessing.resize",
    "model.image_size": "preprocessing.image_size",
    "model.channels": "preprocessing.channels",
    **{
        f"model.{name}": f"model.arguments.{name}"
        for name in (
            *("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"),
            *("stochastic_depth", "dropout", "untied", "channel_groups", "grouping", "tokens"),
        )
    },
}
# Defaults of builders, which version 0.1 wrote into every recipe. They are left out here.
_USUAL_ARGUMENTS = {"stochastic_depth": 0.0, "dropout": 0.0, "untied": False, "channel_groups": 1, "grouping": "concat"}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The network: a variant, an architecture with its sizes, or a trained model that `weights` names."""

    variant: str | None = None  # such as "mixer_b16"; see `keras_mixer.models.ARCHITECTURES`
    architecture: str | None = None  # in place of a variant, such as "res_mlp"; None stands for "mixer"
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the builder, such as {"num_blocks": 8}
    weights: str | None = None  # a published set or a path to start from; None: random weights
    frozen: bool = False  # whether to train the head alone

    def __post_init__(self):
        if self.variant is not None and self.architecture is not None:
            raise ValueError(
                f"A model is a variant or an architecture, but got model.variant={self.variant} and "
                f"model.architecture={self.architecture}. Set one of them to null."
            )
        if self.frozen and self.weights is None:
            raise ValueError("model.frozen trains the head alone: set model.weights for the other layers.")
        try:
            json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"model.arguments must hold JSON values, but got {self.arguments!r}: {error}.") from None
        arguments = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.arguments.items()
            if value is not None and (name not in _USUAL_ARGUMENTS or value != _USUAL_ARGUMENTS[name])
        }
        object.__setattr__(self, "arguments", arguments)


@dataclasses.dataclass(frozen=True)
class PreprocessingSpec:
    """How an image becomes an input, as in `keras_mixer.preprocessing.Preprocessing`.

    A field of None takes the value of the weights' preprocessing, or of the architecture's if there are no weights.
    """

    image_size: tuple[int, int] = (224, 224)
    channels: int = 3
    resize: str = "crop"
    interpolation: str | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    crop_share: float | None = None

    def __post_init__(self):
        self.complete(Preprocessing())

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The model's input shape (height, width, channels)."""
        return (*self.image_size, self.channels)

    def complete(self, usual: Preprocessing) -> Preprocessing:
        """Returns the complete preprocessing. Fields that are None are taken from `usual`."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return Preprocessing(**{**dataclasses.asdict(usual), **given})


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The splits of one dataset, as `keras_mixer.data.DatasetSpec` describes each of them.

    A split "auto" is chosen by the names of the dataset's splits. Training uses `train`, evaluation uses `validation`
    (also `val`, `valid` or `dev`), and the test split is `test`. Without a validation split, the test split is used for
    evaluation. Without both, part of `train` is held out.

    Up to `corrupt_limit` images that are unreadable or have more than `max_pixels` are left out. If a process cannot
    read any image of a batch, the run stops whatever the limit.
    """

    name: str = "digits"  # a TFDS name, "digits", or a folder of images with a path separator, such as "./flowers"
    train_split: str = "train"
    eval_split: str = "test"  # evaluated after each period
    test_split: str | None = None  # read once, at the end of the run; None: not at all
    data_dir: str | None = None  # folder of the TFDS datasets
    label_key: str | None = None  # the feature that holds the label, if a dataset has several
    corrupt_limit: int = 0
    max_pixels: int = MAX_PIXELS

    def of(self, split: str) -> DatasetSpec:
        """Returns the description of one split."""
        return DatasetSpec(self.name, split, self.data_dir, self.label_key)


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """The optimizer. `weight_decay` is decoupled, multiplied by the scheduled rate, and applies to kernels only."""

    name: str = "adamw"  # "adamw", "muon" or "sgd"
    learning_rate: float = 0.001  # the peak
    weight_decay: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.9  # for "sgd" and "muon"
    global_clipnorm: float | None = 1.0  # limits the gradient of the global batch; None: no limit


@dataclasses.dataclass(frozen=True)
class ScheduleSpec:
    """The length of the run and the learning rate over it. Exactly one of `epochs` and `steps` is set.

    With a cooldown, a constant rate leaves the length open: the same run may be given another length until it has begun
    the cooldown, and from the checkpoint of that step afterwards.
    """

    epochs: float | None = None  # passes over the training split
    steps: int | None = None  # updates
    warmup_steps: int = 0  # of linear warmup
    decay: str = "linear"  # "linear", "cosine" or "constant"
    cooldown_steps: int = 0  # last updates of a constant rate, in which it falls linearly to 0


@dataclasses.dataclass(frozen=True)
class DistillationSpec:
    """A trained model whose scores are targets beside the labels, as `training.distillation` writes the loss.

    The teacher sees the same augmented images, in inference mode, in the range of its own preprocessing. It may be any
    architecture with the same classes.
    """

    teacher: str | None = None  # a run folder or .keras file; with `variant`, also a checkpoint or a published set
    variant: str | None = None  # of the teacher, such as "mixer_b16"; a run folder knows its own
    weight: float = 0.9  # share of the teacher's term in the loss; that of the labels is 1 - weight
    temperature: float = 4.0  # divides the logits of both in the teacher's term


@dataclasses.dataclass(frozen=True)
class ExecutionSpec:
    """How devices run the recipe. Apart from rounding, only settings that divide the batch change the result.

    The pipelines are an exception: they draw other random numbers, from the same distributions. "host" augments by
    tf.data, and "device" inside the compiled step, on the JAX backend alone. "auto" takes the device if TensorFlow is
    not installed, or if the device is an accelerator of JAX and the dataset fits in its memory.
    Each replica of a `tf.distribute` strategy and each micro-batch draws its own masks of stochastic depth and dropout,
    and computes its own statistics in a model with BatchNormalization, such as ConvMixer. If a run is resumed with
    another division of the batch, a warning is logged.
    """

    precision: str = "float32"  # one of `PRECISIONS`; head and loss compute in at least float32
    micro_batches: int = 1  # parts that a batch is divided into if it does not fit in memory
    steps_per_execution: int = 1
    jit_compile: bool | None = None  # None: on for GPUs and TPUs, off for CPUs
    strategy: str = "auto"  # see keras_mixer.training.devices.distribution
    pipeline: str = "auto"  # where images are augmented, one of `PIPELINES`; a run keeps its choice
    checkpoint_steps: int = 1000  # updates between two checkpoints
    checkpoint_minutes: float = 15.0  # longest time between two checkpoints
    checkpoints_kept: int = 3


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole training run. Equal recipes and data give equal weights on equally many replicas and processes.

    `ExecutionSpec` says when the number of replicas matters. The number of processes matters if a TFDS dataset is too
    large for memory, because each process then reads a part of its files.
    """

    name: str
    model: ModelSpec = ModelSpec()
    preprocessing: PreprocessingSpec = PreprocessingSpec()
    data: DataSpec = DataSpec()
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    distillation: DistillationSpec = DistillationSpec()
    execution: ExecutionSpec = ExecutionSpec()
    batch_size: int = 4096  # examples of all devices together
    eval_batch_size: int = 256  # examples of all devices together; rounded up to a number that they can share
    eval_steps: int | None = None  # updates between two evaluations; None: about one pass over the training split
    label_smoothing: float = 0.0
    ema_momentum: float | None = None  # for a moving average of the weights, which evaluation and the saved model use
    class_weights: str | None = None  # "balanced": classes count equally in the loss; None: images do
    early_stopping: int | None = None  # evaluations without a lower loss that end the run at its best weights
    suited: tuple[str, ...] = ()  # fields, some of `SUITABLE`, that `train` chooses by the number of images
    learning_rate_grid: tuple[float, ...] = ()  # the rates to try with `sweep`
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        schedule, execution = self.schedule, self.execution
        if (schedule.epochs is None) == (schedule.steps is None):
            raise ValueError(
                f"Exactly one of schedule.epochs and schedule.steps must be set, but got {schedule.epochs} and "
                f"{schedule.steps}. Set the other one to null."
            )
        for wanted, holds, names in _RANGES:
            for name in names.split():
                value = operator.attrgetter(name)(self)
                if value is not None and not holds(value):
                    raise ValueError(f"{name} must be {wanted}, but got {value}.")
        for name, (choices, note) in _CHOICES.items():
            value = operator.attrgetter(name)(self)
            if value not in choices:
                known = ", ".join("null" if choice is None else choice for choice in choices)
                raise ValueError(f"{name} must be one of {known}, but got {value!r}.{note}")
        if schedule.cooldown_steps and schedule.decay != "constant":
            raise ValueError(
                f"schedule.cooldown_steps ends a constant rate, but schedule.decay is {schedule.decay!r}: set it to "
                f"'constant', or schedule.cooldown_steps to 0."
            )
        if schedule.cooldown_steps and self.early_stopping is not None:
            raise ValueError(
                "early_stopping would end a run before its cooldown: set it to null, or schedule.cooldown_steps to 0."
            )
        if unknown := set(self.suited) - set(SUITABLE):
            raise ValueError(f"suited takes {', '.join(SUITABLE)}, but got {', '.join(sorted(unknown))}.")
        if self.batch_size % execution.micro_batches:
            raise ValueError(
                f"execution.micro_batches must divide batch_size={self.batch_size}, but got {execution.micro_batches}."
            )

    def differences(self, other: "Recipe") -> list[str]:
        """Returns the names of differing fields that prevent a run of this recipe from continuing with the other.

        `data.eval_split` and `eval_steps` do not change the weights. They count because all rows of a run's history
        must be measured on the same split, after periods of the same length.
        """
        mine, theirs = (_flat(dataclasses.asdict(_learned(recipe))) for recipe in (self, other))
        return [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]

    def to_json(self) -> str:
        """Returns the recipe as JSON; `Recipe.from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Reads a recipe. Files of version 0.1 can be read too.

        Raises:
            ValueError: If the text is not JSON, or a field is unknown, missing or of a wrong type.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"This is not JSON: {error}.") from None
        for old, new in _MOVED.items():
            part, name = old.split(".")
            if isinstance(fields, dict) and isinstance(fields.get(part), dict) and name in fields[part]:
                *path, last = new.split(".")
                place = functools.reduce(lambda place, step: place.setdefault(step, {}), path, fields)
                place[last] = fields[part].pop(name)
        return read(cls, fields)

    def override(self, changes: Mapping[str, str]) -> "Recipe":
        """Returns the recipe with fields replaced.

        If `data.name` becomes a folder, its splits become "auto". If `model.weights` becomes a trained model, its
        architecture, image size and channels are used. Values in `changes` take precedence. A field in `suited` that is
        replaced is no longer chosen by the number of images.

        Args:
            changes: Dotted name to value as text, such as `{"optimizer.learning_rate": "0.01"}`. A value is JSON or a
                bare string. Names of version 0.1 also work, and `model.NAME` stands for `model.arguments.NAME`.

        Raises:
            ValueError: If a name is unknown or a value does not fit its type. The message lists the known names.

        Example:
            >>> keras_mixer.training.recipes.get("digits").override({"schedule.epochs": "2"}).schedule.epochs
            2.0
        """
        fields = dataclasses.asdict(self)
        values = {_present_name(name): _parse(text) for name, text in changes.items()}
        if DatasetSpec(values.get("data.name", "digits")).is_folder:
            values = {f"data.{name}_split": AUTO for name in ("train", "eval", "test")} | values
        if is_trained_model(weights := values.get("model.weights")):
            values = _of_trained_model(weights, self) | values
        if values.get("schedule.epochs") is not None and "schedule.steps" in self.suited:
            values = {"schedule.steps": None} | values
        for name, value in values.items():
            *path, last = name.split(".")
            place: Any = fields
            for part in path:
                place = place.get(part) if isinstance(place, dict) else None
            new_argument = path == ["model", "arguments"]
            if not isinstance(place, dict) or isinstance(place.get(last), dict) or not (last in place or new_argument):
                known = ", ".join([*_flat(fields), "model.arguments.NAME"])
                raise ValueError(f"Unknown recipe field {name!r}. Known fields: {known}.")
            place[last] = value
        if "suited" not in values:
            fields["suited"] = [name for name in self.suited if name not in values]
        return read(type(self), fields)


def _of_trained_model(weights: str, recipe: Recipe) -> dict[str, Any]:
    """Returns the changes that make a recipe start from a trained model without altering the model."""
    from keras_mixer.data.trained_model import load_card  # imports Keras

    preprocessing = load_card(weights).preprocessing
    sizes = [argument for argument in recipe.model.arguments if argument not in RATES]
    return {
        **{f"model.{field}": None for field in ("variant", "architecture")},
        **{f"model.arguments.{argument}": None for argument in sizes},
        "preprocessing.image_size": preprocessing.image_size,
        "preprocessing.channels": preprocessing.channels,
    }


def is_trained_model(weights: Any) -> TypeGuard[str]:
    """Returns whether `weights` names a run folder or a `.keras` file. These define their own architecture."""
    if not isinstance(weights, str) or is_address(weights):
        return False
    return weights.endswith(".keras") or os.path.isfile(os.path.join(os.path.expanduser(weights), "model.keras"))


def is_local(source: str | None) -> TypeGuard[str]:
    """Returns whether weights or a teacher come from this machine, not from a published set or the hub."""
    from keras_mixer.weights.published.cache import is_path  # imports Keras

    return source is not None and (is_path(source) or is_trained_model(source))


def _present_name(name: str) -> str:
    part, *path = name.split(".")
    if name not in _MOVED and part == "model" and path and path[0] not in ModelSpec.__dataclass_fields__:
        return ".".join(["model.arguments", *path])
    return _MOVED.get(name, name)


def _parse(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None if text == "None" else text


def _flat(fields: dict, prefix: str = "") -> dict:
    """Returns nested fields by dotted name."""
    flat: dict = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _learned(recipe: Recipe) -> Recipe:
    """Returns the recipe with defaults for all settings that change neither the weights nor the history.

    A run records the pipeline that it has chosen; those of before there was a choice had that of the host.
    """
    pipeline = "host" if recipe.execution.pipeline == "auto" else recipe.execution.pipeline
    schedule, distillation = recipe.schedule, recipe.distillation
    if schedule.cooldown_steps:  # the length is open
        schedule = dataclasses.replace(schedule, epochs=None, steps=1, cooldown_steps=1)
    return dataclasses.replace(
        recipe,
        name="",
        schedule=schedule,
        distillation=DistillationSpec() if distillation.teacher is None else distillation,
        execution=ExecutionSpec(precision=recipe.execution.precision, pipeline=pipeline),
        data=dataclasses.replace(recipe.data, corrupt_limit=0, max_pixels=MAX_PIXELS, test_split=None),
        eval_batch_size=1,
        learning_rate_grid=(),
    )
