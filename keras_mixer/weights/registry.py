"""The published weights of Mixers, as data."""

import dataclasses

from keras_mixer.preprocessing import Preprocessing, preprocess_input  # noqa: F401 - re-exported

InputPreprocessing = Preprocessing  # its name in version 0.1


@dataclasses.dataclass(frozen=True)
class WeightSet:
    """One file of weights, published or part of this package.

    Attributes:
        variant: Key of `keras_mixer.models.VARIANTS`, as "mixer_b16".
        name: Name of the set, as "imagenet21k".
        url: Where the file is published, https; None for one that comes with this package.
        classes: Classes of its head.
        preprocessing: How it wants its images.
        class_names: Names of the classes, where they are not those of ImageNet.
        source: Who published it, and what it was trained on.
        licence: SPDX name of the licence, or where to read about it.
        note: What a user should know before relying on it; empty if nothing.
    """

    variant: str
    name: str
    url: str | None
    classes: int
    source: str
    licence: str
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    note: str = ""
    class_names: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the file where it is kept; the published names repeat from one set to the next."""
        suffix = ".npz" if self.url is None else self.url[self.url.rindex(".") :]
        return f"{self.variant}-{self.name}{suffix}"


_OFFICIAL = "https://storage.googleapis.com/mixer_models"
_REFERENCE = "google-research/vision_transformer"
_HUB = "https://huggingface.co/timm"
_MIIL = InputPreprocessing(mean=0.0, std=1.0)
_SAM = "trained on ImageNet-1k with sharpness-aware minimisation (arXiv 2106.01548)"
_GSAM = "trained on ImageNet-1k with surrogate gap minimisation (arXiv 2203.08065)"
_GSAM_NOTE = (
    "Reported broken: users could not read these files or found poor accuracy "
    "(issue 195 of google-research/vision_transformer). Check the accuracy before relying on them."
)
_FROM_SCRATCH_NOTE = (
    "The hub calls this file in21k_ft_in1k; it holds the weights trained on ImageNet-1k from scratch, "
    "not a fine-tuned ImageNet-21k model."
)
_ERF_NOTE = "Trained and evaluated in timm, whose GELU is the erf form; this package computes the tanh form."


def _official(variant: str, file: str, name: str, classes: int, training: str, note: str = "") -> WeightSet:
    url = f"{_OFFICIAL}/{name}/Mixer-{file}.npz"
    return WeightSet(variant, name, url, classes, f"{_REFERENCE}, {training}", "Apache-2.0", note=note)


def _timm(variant: str, repository: str, name: str, classes: int, training: str, **fields) -> WeightSet:
    url = f"{_HUB}/{repository}/resolve/main/model.safetensors"
    licence = fields.pop("licence", "Apache-2.0")
    return WeightSet(variant, name, url, classes, f"huggingface.co/timm/{repository}, {training}", licence, **fields)


_SETS = (
    WeightSet(
        "mixer_nano",
        "cifar10",
        url=None,
        classes=10,
        source="keras_mixer, trained on CIFAR-10 by the recipe in the .json file beside the weights",
        licence="Apache-2.0",
        preprocessing=InputPreprocessing(image_size=(32, 32), resize="direct"),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    _official("mixer_b16", "B_16", "imagenet1k", 1_000, "trained on ImageNet-1k"),
    _official("mixer_l16", "L_16", "imagenet1k", 1_000, "trained on ImageNet-1k"),
    _official("mixer_b16", "B_16", "imagenet21k", 21_843, "trained on ImageNet-21k"),
    _official("mixer_l16", "L_16", "imagenet21k", 21_843, "trained on ImageNet-21k"),
    _official("mixer_b16", "B_16", "sam", 1_000, _SAM),
    _official("mixer_b32", "B_32", "sam", 1_000, _SAM),
    _official("mixer_b16", "B_16", "gsam", 1_000, _GSAM, _GSAM_NOTE),
    _official("mixer_b32", "B_32", "gsam", 1_000, _GSAM, _GSAM_NOTE),
    _official("mixer_s16", "S_16", "gsam", 1_000, _GSAM, _GSAM_NOTE),
    _official("mixer_s32", "S_32", "gsam", 1_000, _GSAM, _GSAM_NOTE),
    _official("mixer_s8", "S_8", "gsam", 1_000, _GSAM, _GSAM_NOTE),
    _timm("mixer_b16", "mixer_b16_224.goog_in21k", "imagenet21k_timm", 21_843, "the official imagenet21k converted"),
    _timm("mixer_l16", "mixer_l16_224.goog_in21k", "imagenet21k_timm", 21_843, "the official imagenet21k converted"),
    _timm(
        "mixer_b16",
        "mixer_b16_224.goog_in21k_ft_in1k",
        "imagenet1k_timm",
        1_000,
        "the official imagenet1k converted",
        note=_FROM_SCRATCH_NOTE,
    ),
    _timm(
        "mixer_l16",
        "mixer_l16_224.goog_in21k_ft_in1k",
        "imagenet1k_timm",
        1_000,
        "the official imagenet1k converted",
        note=_FROM_SCRATCH_NOTE,
    ),
    _timm(
        "mixer_b16",
        "mixer_b16_224.miil_in21k",
        "imagenet21k_miil",
        11_221,
        "trained on ImageNet-21k-P (arXiv 2104.10972)",
        licence="see github.com/Alibaba-MIIL/ImageNet21K",
        preprocessing=_MIIL,
        note=_ERF_NOTE,
    ),
    _timm(
        "mixer_b16",
        "mixer_b16_224.miil_in21k_ft_in1k",
        "imagenet1k_miil",
        1_000,
        "trained on ImageNet-21k-P, fine-tuned on ImageNet-1k (arXiv 2104.10972)",
        licence="see github.com/Alibaba-MIIL/ImageNet21K",
        preprocessing=_MIIL,
        note=_ERF_NOTE,
    ),
)

REGISTRY = {(entry.variant, entry.name): entry for entry in _SETS}


def available(variant: str | None = None) -> list[WeightSet]:
    """Lists the published sets of weights, of one variant or of all.

    Args:
        variant: Name as "mixer_b16", or None for all.

    Returns:
        The sets in the order of the registry; empty for a variant of which none was published.

    Example:
        >>> [entry.name for entry in keras_mixer.weights.available("mixer_l16")]
        ['imagenet1k', 'imagenet21k', 'imagenet21k_timm', 'imagenet1k_timm']
    """
    return [entry for entry in REGISTRY.values() if variant in (None, entry.variant)]


def find(variant: str, name: str) -> WeightSet:
    """Returns the set `name` of `variant`.

    Raises:
        ValueError: If there is no such set; the message lists those that exist.

    Example:
        >>> keras_mixer.weights.find("mixer_nano", "cifar10").preprocessing.image_size
        (32, 32)
    """
    if (variant, name) in REGISTRY:
        return REGISTRY[variant, name]
    known = ", ".join(entry.name for entry in available(variant))
    if known:
        raise ValueError(f"No set of weights {name!r} of {variant} was published. Published ones: {known}.")
    variants = ", ".join(sorted({entry.variant for entry in available()}))
    raise ValueError(f"No weights of {variant!r} were published ({name!r} was asked for); those of {variants} were.")
