"""What a training recipe is: frozen dataclasses, their JSON, and overrides by dotted names."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_mixer.fields import read

PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The network. Either a variant's name or the five sizes of `keras_mixer.Mixer`."""

    variant: str | None = None  # of keras_mixer.models.ARCHITECTURES
    num_blocks: int | None = None
    patch_size: int | None = None
    hidden_dim: int | None = None
    tokens_mlp_dim: int | None = None
    channels_mlp_dim: int | None = None
    image_size: tuple[int, int] = (224, 224)  # (height, width), pixels
    channels: int = 3
    stochastic_depth: float = 0.0  # probability of dropping the last MLP; rises linearly from 0 at the first
    dropout: float = 0.0
    weights: str | None = None  # a published set or a path to start from; None: random
    # What the paper's appendix tried, in a Mixer alone; see `keras_mixer.Mixer`.
    untied: bool = False  # token-mixing MLPs of its own for every channel
    channel_groups: int = 1  # channels that a token-mixing MLP sees at once
    grouping: str = "concat"  # how those are joined: "concat" or "project"
    tokens: tuple[int, ...] | None = None  # a pyramid: tokens that each block puts out; None: all


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Where images come from: a TFDS name, `digits`, or a folder of images."""

    dataset: str = "digits"  # a folder is written with a path separator: ./flowers
    train_split: str = "train"
    eval_split: str = "test"
    data_dir: str | None = None  # of TFDS
    label_key: str | None = None  # the feature that holds the label, where a dataset has several
    resize: str = "crop"  # at evaluation: "crop", "squash" or "direct"
    # Images of both splits that may be unreadable; they are left out and counted. A batch of which a process can read
    # none stops the run all the same: with one example for each process, the first.
    corrupt_limit: int = 0


@dataclasses.dataclass(frozen=True)
class AugmentationSpec:
    """What happens to a training image."""

    crop: str = "inception"  # "inception", "pad" (a random shift) or "none"
    crop_padding: int = 4  # greatest shift of "pad", in pixels of the model's input
    flip: bool = True
    randaugment_layers: int = 0
    randaugment_magnitude: float = 10.0  # on the scale of the AutoAugment code
    mixup: float = 0.0  # p of Beta(p, p); 0: off
    cutmix: float = 0.0  # likewise


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """The optimizer. `weight_decay` is decoupled, multiplied by the scheduled rate, and acts on kernels alone."""

    name: str = "adamw"  # "adamw", "muon" or "sgd"
    learning_rate: float = 0.001  # the peak
    weight_decay: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.9  # of "sgd" and "muon"
    global_clipnorm: float | None = 1.0  # on the gradient of the global batch; None: off

    def __post_init__(self):
        for name in ("learning_rate", "weight_decay"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"optimizer.{name} must be at least 0, but got {getattr(self, name)}.")
        for name in ("beta_1", "beta_2", "momentum"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"optimizer.{name} must be in [0, 1), but got {getattr(self, name)}.")
        if self.epsilon <= 0.0:
            raise ValueError(f"optimizer.epsilon must be above 0, but got {self.epsilon}.")
        if self.global_clipnorm is not None and self.global_clipnorm <= 0.0:
            raise ValueError(
                f"optimizer.global_clipnorm must be above 0, or null for none, but got {self.global_clipnorm}."
            )


@dataclasses.dataclass(frozen=True)
class ScheduleSpec:
    """How long the run is and how the learning rate moves. Exactly one of `epochs` and `steps` is set."""

    epochs: float | None = None  # passes over the training split
    steps: int | None = None  # updates
    warmup_steps: int = 0  # of linear warmup
    decay: str = "linear"  # "linear", "cosine" or "constant"


@dataclasses.dataclass(frozen=True)
class ExecutionSpec:
    """How devices run the recipe: none of it changes what is learned, beyond rounding, but for parts of a batch.

    Each replica of a `tf.distribute` strategy and each micro-batch draws masks of its own, where `stochastic_depth` or
    `dropout` is above 0, and takes statistics of its own in a model with BatchNormalization, as ConvMixer. A run that
    goes on in other parts warns of it.
    """

    precision: str = "float32"  # a Keras dtype policy of `PRECISIONS`; head and loss are float32 at least
    micro_batches: int = 1  # parts that a batch is taken in, where it does not fit
    steps_per_execution: int = 1
    jit_compile: bool | None = None  # None: on for GPUs and TPUs, off for CPUs
    strategy: str = "auto"  # see keras_mixer.training.distribution
    checkpoint_steps: int = 1000  # updates between two checkpoints
    checkpoint_minutes: float = 15.0  # after which one is written in any case
    checkpoints_kept: int = 3


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole training run. Equal recipes, data and numbers of replicas and processes give equal weights.

    The number of replicas counts where `ExecutionSpec` says so; that of processes where a TFDS dataset is too large for
    memory and each of them reads a part of its files.
    """

    name: str
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    execution: ExecutionSpec = ExecutionSpec()
    batch_size: int = 4096  # examples of all devices together
    eval_batch_size: int = 256  # likewise; rounded up to a number that they can share
    eval_steps: int | None = None  # updates between two evaluations; None: about one pass over the training split
    label_smoothing: float = 0.0
    ema_momentum: float | None = None  # of a moving average of the weights, used for evaluation and the saved model
    learning_rate_grid: tuple[float, ...] = ()  # the rates to try with `sweep`
    seed: int = 0

    def __post_init__(self):
        if (self.schedule.epochs is None) == (self.schedule.steps is None):
            raise ValueError(
                f"Exactly one of schedule.epochs and schedule.steps must be set, but got {self.schedule.epochs} and "
                f"{self.schedule.steps}. Set the other one to null."
            )
        if self.schedule.epochs is not None and self.schedule.epochs <= 0.0:
            raise ValueError(f"schedule.epochs must be above 0, but got {self.schedule.epochs}.")
        counts = {
            "batch_size": self.batch_size,
            "eval_batch_size": self.eval_batch_size,
            "eval_steps": self.eval_steps,
            "schedule.steps": self.schedule.steps,
            **{
                f"execution.{name}": getattr(self.execution, name)
                for name in ("micro_batches", "steps_per_execution", "checkpoint_steps", "checkpoints_kept")
            },
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, but got {count}.")
        if self.execution.precision not in PRECISIONS:
            raise ValueError(
                f"execution.precision must be one of {', '.join(PRECISIONS)}, but got {self.execution.precision!r}. "
                f"There is no loss scaling, which float16 would need, and weights in bfloat16 would not move: there "
                f"AdamW's beta_2 of 0.999 is 1."
            )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be from 0 to 2**31 - 1, but got {self.seed}.")
        for name, share in (("label_smoothing", self.label_smoothing), ("ema_momentum", self.ema_momentum)):
            if share is not None and not 0.0 <= share < 1.0:
                raise ValueError(f"{name} must be in [0, 1), but got {share}.")
        if self.batch_size % self.execution.micro_batches:
            raise ValueError(
                f"execution.micro_batches must divide batch_size={self.batch_size}, but got "
                f"{self.execution.micro_batches}."
            )

    def differences(self, other: "Recipe") -> list[str]:
        """Names the fields in which the other recipe would learn something else, or measure it elsewhere.

        A run cannot go on with another `data.eval_split` or `eval_steps`, which change no weight: its history and its
        running metrics are of one split and of periods of one length.
        """
        mine, theirs = (_flat(dataclasses.asdict(_learned(recipe))) for recipe in (self, other))
        return [name for name in mine if mine[name] != theirs[name]]

    def to_json(self) -> str:
        """Writes the recipe as JSON that `Recipe.from_json` reads back as an equal recipe."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Reads a recipe.

        Raises:
            ValueError: If the text is not JSON, names an unknown field, lacks `name`, or holds a value of a wrong
                type.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"A recipe is a JSON object, but this is no JSON: {error}.") from None
        return read(cls, fields)

    def override(self, changes: Mapping[str, str]) -> "Recipe":
        """Returns the recipe with fields replaced.

        Args:
            changes: Dotted name to value as text, such as `{"optimizer.learning_rate": "0.01"}`: JSON, or a bare
                string.

        Raises:
            ValueError: If a name is unknown (the known ones are listed) or a value does not fit its type.

        Example:
            >>> keras_mixer.training.recipes.get("digits").override({"schedule.epochs": "2"}).schedule.epochs
            2.0
        """
        fields = dataclasses.asdict(self)
        for name, text in changes.items():
            *path, last = name.split(".")
            place: Any = fields
            for part in path:
                place = place.get(part) if isinstance(place, dict) else None
            if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
                raise ValueError(f"Unknown recipe field {name!r}. Known fields: {', '.join(_flat(fields))}.")
            place[last] = _parse(text)
        return read(type(self), fields)


def is_trained_model(weights: str | None) -> bool:
    """Whether `weights` names a run folder or a `.keras` file, which bring their own architecture."""
    return weights is not None and (weights.endswith(".keras") or pathlib.Path(weights, "model.keras").is_file())


def _parse(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None if text == "None" else text


def _flat(fields: dict, prefix: str = "") -> dict:
    """Nested fields by dotted name."""
    flat: dict = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _learned(recipe: Recipe) -> Recipe:
    """The recipe without what changes neither weights nor history: its execution beyond the precision, and the like."""
    return dataclasses.replace(
        recipe,
        name="",
        execution=ExecutionSpec(precision=recipe.execution.precision),
        data=dataclasses.replace(recipe.data, corrupt_limit=0),
        eval_batch_size=1,
        learning_rate_grid=(),
    )
