"""The variants of Mixer's siblings, behind the signature of `keras.applications`."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Sequence

import keras

from keras_mixer.models import GMLP, ConvMixer, CycleMLP, ResMLP, VisionPermutator
from keras_mixer.models.catalog import find_variant
from keras_mixer.models.images import fixed_shape
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.weights.fresh_head import load_with_fresh_head
from keras_mixer.weights.inspection import sizes_of
from keras_mixer.weights.loading import is_path

CONSTRUCTORS: dict[str, Callable[..., keras.Model]] = {}  # variant, as "res_mlp_24" -> its constructor

_SCALED = Preprocessing(interpolation="bicubic")  # to [-1, 1]
_IMAGENET = dataclasses.replace(_SCALED, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# What the authors' code makes of 0.9 at 224 px: it rounds 248.9 pixels down.
_NINE_TENTHS = dataclasses.replace(_IMAGENET, crop_share=224 / 248)

# How the published checkpoints are evaluated: by their authors' code; gMLP, whose authors published none, by timm.
_PREPROCESSING = {
    ResMLP: _NINE_TENTHS,  # facebookresearch/deit, README_resmlp.md; timm takes 0.875
    GMLP: _SCALED,
    ConvMixer: dataclasses.replace(_IMAGENET, crop_share=0.96),  # as timm
    VisionPermutator: _IMAGENET,  # houqb/VisionPermutator, models/vip.py
    CycleMLP: _IMAGENET,  # ShoufaChen/CycleMLP, datasets.py, which passes over the crop_pct of its cycle_mlp.py
}
_EXCEPTIONS = {"vision_permutator_medium_7": _NINE_TENTHS}

_DOC = """Builds {title}, with random or your own weights.

    {sizes}.

    Args:
        include_top: Whether to end in the classification head.
        weights: None for random weights, or the path of a checkpoint: a published one as `.safetensors`, or any other
            that `keras_mixer.weights.load` reads.
        input_tensor: Keras tensor of images to build on, instead of a new input of `input_shape`.
        input_shape: Image shape (height, width, channels); None for {input_shape}.
        pooling: Without the head: None for the features, "avg" for the mean of the last ones, "max" for their maximum.
        classes: Classes of the head; None for those of the weights, else 1,000. Where the weights have another number
            of them, or no head, the body is loaded and the head starts fresh, which a log line says.
        classifier_activation: Activation of the head; None for logits.
        stochastic_depth: Probability of dropping the last residual branch for a sample while training, rising
            linearly from 0.
        dropout: Dropout rate inside the MLPs.
        name: Name of the model.

    Returns:
        A functional `keras.Model`; its attribute `preprocessing` says how it wants its images, as the published
        weights do, for `keras_mixer.preprocess_input`. A saved model does not keep it: after `keras.models.load_model`,
        `keras_mixer.siblings.preprocessing_of("{variant}", model.input_shape[1:])` says it again.

    Raises:
        ValueError: If an argument is out of range or the checkpoint does not fit.
        OSError: If the weights cannot be read.

    Example:
        >>> model = keras_mixer.{constructor}(classes=10)
    """


def preprocessing_of(variant: str, image_shape: Sequence[int | None]) -> Preprocessing:
    """Returns how a sibling wants its images, the same for random weights as for the published ones.

    Args:
        variant: A key of `CONSTRUCTORS`.
        image_shape: (height, width, channels); a side of any length stands for 224. The published weights take three
            channels; images of any other number are taken to [-1, 1].

    Example:
        >>> keras_mixer.siblings.preprocessing_of("res_mlp_24", (224, 224, 3)).mean
        (0.485, 0.456, 0.406)
    """
    height, width, channels = image_shape
    published = _EXCEPTIONS.get(variant, _PREPROCESSING[find_variant(variant)[0]])
    if channels != 3:
        published = dataclasses.replace(published, mean=0.5, std=0.5)
    return dataclasses.replace(published, image_size=(height or 224, width or 224), channels=channels or 3)


def _constructor(variant: str, constructor: str, title: str):
    """Makes the constructor of one variant, with a signature and a docstring of its own."""
    builder, sizes = find_variant(variant)

    def construct(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor=None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation="softmax",
        stochastic_depth: float = 0.0,
        dropout: float = 0.0,
        name: str = variant,
    ) -> keras.Model:
        if weights is not None and not is_path(weights):
            raise ValueError(
                f"No weights of {title} are fetched by name, but `weights` is {weights!r}: "
                "pass the path of a checkpoint."
            )
        fixed = fixed_shape(input_shape, input_tensor)
        stored_classes = None if weights is None else sizes_of(weights).classes
        shape = {} if fixed is None else {"input_shape": fixed}
        model = builder(
            **sizes,
            **shape,
            input_tensor=input_tensor,
            include_top=include_top,
            classes=classes if classes is not None else stored_classes or 1_000,
            classifier_activation=classifier_activation,
            pooling=pooling,
            stochastic_depth=stochastic_depth,
            dropout=dropout,
            name=name,
        )
        if weights is not None:
            load_with_fresh_head(model, weights, resize=True)
        images = model.inputs[0] if input_tensor is None else input_tensor
        model.preprocessing = preprocessing_of(variant, images.shape[1:])
        return model

    CONSTRUCTORS[variant] = construct
    construct.__name__ = construct.__qualname__ = constructor
    construct.__doc__ = _DOC.format(
        title=title,
        variant=variant,
        constructor=constructor,
        sizes=", ".join(f"{key} {value}" for key, value in sizes.items()),
        input_shape=inspect.signature(builder).parameters["input_shape"].default,
    )
    return construct


ResMLP12 = _constructor("res_mlp_12", "ResMLP12", "ResMLP-S12")
ResMLP24 = _constructor("res_mlp_24", "ResMLP24", "ResMLP-S24")
ResMLP36 = _constructor("res_mlp_36", "ResMLP36", "ResMLP-S36")
ResMLPB24x8 = _constructor("res_mlp_b24_8", "ResMLPB24x8", "ResMLP-B24/8")
GMLPTi = _constructor("g_mlp_ti", "GMLPTi", "gMLP-Ti")
GMLPS = _constructor("g_mlp_s", "GMLPS", "gMLP-S")
GMLPB = _constructor("g_mlp_b", "GMLPB", "gMLP-B")
ConvMixer1536x20 = _constructor("conv_mixer_1536_20", "ConvMixer1536x20", "ConvMixer-1536/20")
ConvMixer768x32 = _constructor("conv_mixer_768_32", "ConvMixer768x32", "ConvMixer-768/32")
ConvMixer1024x20 = _constructor("conv_mixer_1024_20", "ConvMixer1024x20", "ConvMixer-1024/20")
VisionPermutatorSmall14 = _constructor("vision_permutator_small_14", "VisionPermutatorSmall14", "ViP-Small/14")
VisionPermutatorSmall7 = _constructor("vision_permutator_small_7", "VisionPermutatorSmall7", "ViP-Small/7")
VisionPermutatorMedium7 = _constructor("vision_permutator_medium_7", "VisionPermutatorMedium7", "ViP-Medium/7")
VisionPermutatorLarge7 = _constructor("vision_permutator_large_7", "VisionPermutatorLarge7", "ViP-Large/7")
CycleMLPB1 = _constructor("cycle_mlp_b1", "CycleMLPB1", "CycleMLP-B1")
CycleMLPB2 = _constructor("cycle_mlp_b2", "CycleMLPB2", "CycleMLP-B2")
CycleMLPB3 = _constructor("cycle_mlp_b3", "CycleMLPB3", "CycleMLP-B3")
CycleMLPB4 = _constructor("cycle_mlp_b4", "CycleMLPB4", "CycleMLP-B4")
CycleMLPB5 = _constructor("cycle_mlp_b5", "CycleMLPB5", "CycleMLP-B5")
