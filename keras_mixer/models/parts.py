"""Parts that several architectures share: image input, residual branches, pyramids, the head and common costs."""

import contextlib
import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from keras_mixer.models.record import Rule
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import boolean, integer, positive_integer, rate_below_one

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def dtype_policy(policy) -> Iterator[None]:
    """Makes `policy` the dtype policy of the layers built in the context; None keeps Keras's own."""
    import keras

    before = keras.config.dtype_policy()
    wanted = keras.dtype_policies.get(policy)  # get(None) is Keras's own
    if not keras.backend.is_float_dtype(wanted.compute_dtype):
        raise ValueError(f"`dtype` must be a policy of floating-point numbers, such as 'float32', but got {policy!r}.")
    keras.config.set_dtype_policy(wanted)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def with_dtype(builder: Callable[..., "keras.Model"]) -> Callable[..., "keras.Model"]:
    """Gives a builder the argument `dtype`, its layers' dtype policy, and makes it refuse a wrong head at once."""

    @functools.wraps(builder)
    def build(*, dtype=None, **arguments):
        check_head(**arguments)
        with dtype_policy(dtype):
            return builder(**arguments)

    *arguments, name = inspect.signature(builder).parameters.values()
    dtype = inspect.Parameter("dtype", inspect.Parameter.KEYWORD_ONLY, default=None)
    build.__signature__ = inspect.Signature([*arguments, dtype, name])  # type: ignore[attr-defined]
    return build


def check_head(include_top: bool = True, classes=1, classifier_activation=None, pooling=None, **others) -> None:
    """Raises ValueError if an argument of the head is out of range. Ignores the other arguments of a builder."""
    import keras

    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max', but got {pooling!r}.")
    if boolean("include_top", include_top):
        positive_integer("classes", classes)
        keras.activations.get(classifier_activation)


def fixed_shape(input_shape, input_tensor) -> tuple[int | None, ...] | None:
    """Returns the image shape that a caller fixes by one of the two arguments; None if neither fixes it."""
    if input_tensor is None:
        if input_shape is None:
            return None
        # NumPy's integers cannot be written as JSON. Keras refuses anything that is not an integer.
        return tuple(side if integer(side) is None else integer(side) for side in input_shape)
    shape = tuple(input_tensor.shape[1:])
    if input_shape is not None and (
        len(input_shape) != len(shape)
        or any(side not in (None, given) for side, given in zip(input_shape, shape, strict=True))
    ):
        raise ValueError(f"`input_shape` is {tuple(input_shape)}, but `input_tensor` has images of shape {shape}.")
    return shape


def image_input(input_shape, input_tensor):
    """Returns the tensor of images to build on, and the inputs of the model."""
    import keras

    images = input_tensor
    if images is None:
        images = keras.Input(shape=fixed_shape(input_shape, None), name="images")
    inputs = keras.utils.get_source_inputs(images)
    return images, inputs[0] if len(inputs) == 1 else inputs  # a list would make the model expect lists


def convolution(hidden_dim: int, kernel_size: int, strides: int, name: str):
    """Returns a LeCun normal convolution with channels last, whatever Keras's configuration says."""
    import keras

    from keras_mixer.layers import StemConvolution

    return (StemConvolution if name == "stem" else keras.layers.Conv2D)(
        hidden_dim,
        kernel_size,
        strides=strides,
        data_format="channels_last",
        kernel_initializer="lecun_normal",
        name=name,
    )


def linear_rates(count: int, last: float) -> list[float]:
    """Returns rates that rise linearly from 0 at the first of `count` branches to `last` at the last."""
    last = rate_below_one("stochastic_depth", last)
    return [last * index / (count - 1) if count > 1 else last for index in range(count)]


def residual(inputs, branch, rate: float, name: str):
    """Returns `inputs + branch`; training drops the branch of a sample with probability `rate`."""
    import keras

    from keras_mixer.layers import StochasticDepth

    if rate > 0:
        branch = StochasticDepth(rate, name=f"{name}_stochastic_depth")(branch)
    return keras.layers.Add(name=f"{name}_add")([inputs, branch])


def classifier(
    inputs, tokens, include_top: bool, classes: int, classifier_activation, pooling: str | None, name: str
) -> "keras.Model":
    """Returns a model that ends in class scores `(batch, classes)`, pooled features `(batch, channels)` or the tokens.

    A linear head, which starts at zero, computes the scores from the mean over tokens. `tokens` may also be a feature
    map `(batch, rows, columns, channels)`. The other arguments are those of `keras_mixer.Mixer`.
    """
    import keras

    from keras_mixer.models.image_model import ImageModel

    check_head(include_top, classes, classifier_activation, pooling)  # a user's own builder may lack `with_dtype`
    if not include_top and pooling is None:
        return ImageModel(inputs, tokens, name=name)
    kind = "Max" if pooling == "max" and not include_top else "Average"
    pool = getattr(keras.layers, f"Global{kind}Pooling{len(tokens.shape) - 2}D")
    # The channels are last, whatever `keras.config.image_data_format` says.
    features = pool(data_format="channels_last", name="pre_logits")(tokens)
    if not include_top:
        return ImageModel(inputs, features, name=name)
    head = keras.layers.Dense(
        positive_integer("classes", classes),  # NumPy's integers cannot be written as JSON
        activation=classifier_activation,
        kernel_initializer="zeros",
        # Scores and their loss need float32, even when the body computes in half precision.
        dtype=keras.backend.result_type(features.dtype, "float32"),
        name="head",
    )
    return ImageModel(inputs, head(features), name=name)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Blocks at one resolution of a pyramid."""

    blocks: int
    mlp_ratio: float  # hidden units of the channel MLPs, divided by the channels
    mixing: Callable  # takes a name and returns the spatial mixing layer of a block
    downsampling: Callable | None  # makes the next stage's feature map; None in the last stage or without a transition


def check_stages(layers: Sequence[int], **arguments: Sequence) -> None:
    """Raises ValueError unless every stage of a pyramid has blocks and an entry in each argument."""
    if not layers:
        raise ValueError("`layers` must list the blocks of at least one stage, but got none.")
    for count in layers:
        positive_integer("layers", count)
    for transition in arguments["transitions"]:
        boolean("transitions", transition)
    for name, values in arguments.items():
        if len(values) != len(layers):
            raise ValueError(
                f"`{name}` must have one entry for each of the {len(layers)} stages that `layers` lists, "
                f"but got {tuple(values)}."
            )


def pyramid(features, stages: Sequence[Stage], stochastic_depth: float, dropout: float) -> list:
    """Runs the stages on a feature map; returns the last feature map of each resolution, finest first."""
    rates = iter(linear_rates(2 * sum(stage.blocks for stage in stages), stochastic_depth))
    maps = []
    for number, stage in enumerate(stages):
        for block in range(stage.blocks):
            name = f"stage_{number}_block_{block}"
            features = _pyramid_block(features, stage, (next(rates), next(rates)), dropout, name)
        if stage.downsampling is not None:
            maps.append(features)
            features = stage.downsampling(features)
    return [*maps, features]


def _pyramid_block(features, stage: Stage, rates: tuple[float, float], dropout: float, name: str):
    """Applies one block: spatial mixing, then a channel MLP, each after a norm and with a residual connection."""
    from keras_mixer.layers import ChannelMLP

    branch = _pyramid_norm(f"{name}_norm_0")(features)
    branch = stage.mixing(name=f"{name}_mixing")(branch)
    features = residual(features, branch, rates[0], f"{name}_0")
    branch = _pyramid_norm(f"{name}_norm_1")(features)
    mlp_dim = int(features.shape[-1] * stage.mlp_ratio)
    branch = ChannelMLP(mlp_dim, dropout=dropout, name=f"{name}_channel_mlp")(branch)
    return residual(features, branch, rates[1], f"{name}_1")


def pyramid_classifier(
    inputs, maps: Sequence, include_top: bool, classes: int, classifier_activation, pooling: str | None, name: str
) -> "keras.Model":
    """Returns a pyramid that ends in class scores, pooled features, or normalised feature maps for dense prediction.

    Only the norm of the coarsest map has weights, because the checkpoint of a classifier holds only those.
    """
    from keras_mixer.models.image_model import ImageModel

    coarsest = _pyramid_norm("pre_head_layer_norm")(maps[-1])
    if include_top or pooling is not None:
        return classifier(inputs, coarsest, include_top, classes, classifier_activation, pooling, name)
    plain = {"center": False, "scale": False}
    finer = [_pyramid_norm(f"feature_norm_{i}", **plain)(features) for i, features in enumerate(maps[:-1])]
    return ImageModel(inputs, [*finer, coarsest], name=name)


def _pyramid_norm(name: str, **arguments):
    from keras_mixer.layers import LayerNorm

    # PyTorch's default epsilon, which the published weights have; Keras's is 1e-3.
    return LayerNorm(epsilon=1e-5, name=name, **arguments)


def places(layer) -> int:
    """Returns the number of tokens, or of positions in a feature map, in a layer's output."""
    return math.prod(layer.output.shape[1:-1])


def kernel_cost(layer) -> int:
    """Returns the multiply-adds of a layer that applies its kernel once at each position of its output."""
    return places(layer) * math.prod(layer.kernel.shape)


def token_map_cost(layer) -> int:
    """Returns the multiply-adds of a linear map over the tokens of each output channel."""
    _, tokens, channels = layer.output.shape
    return tokens * tokens * channels


def reweighted_cost(layer, heights: int, widths: int) -> int:
    """Returns the multiply-adds of a mixing whose branches sum `heights` values, `widths` values and the channels."""
    channels = layer.output.shape[-1]
    reweight = layer.reweight.mlp_dim * (channels + 3 * channels)  # once for the whole image
    return places(layer) * channels * (heights + widths + 2 * channels) + reweight


# Keys are class names of layers. Normalisation is left out, because its cost is only linear in the number of tokens.
COSTS: dict[str, Callable] = {
    **dict.fromkeys(("Dense", "Conv2D", "DepthwiseConv2D"), kernel_cost),
    **dict.fromkeys(("LayerNormalization", "BatchNormalization", "Normalization"), lambda layer: 0),
    "PatchEmbedding": lambda layer: math.prod(layer.grid) * math.prod(layer.kernel.shape),
    "ChannelMLP": lambda layer: places(layer) * layer.mlp_dim * (layer.input.shape[-1] + layer.output.shape[-1]),
}


# Preprocessing of several architectures.
SCALED = Preprocessing(interpolation="bicubic")  # to [-1, 1]
IMAGENET = dataclasses.replace(SCALED, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# The published evaluations at 224 px use a crop of 0.9, and their code rounds 248.9 pixels down.
NINE_TENTHS = dataclasses.replace(IMAGENET, crop_share=224 / 248)

# PyTorch names that several architectures share.
HEAD = Rule(r"head\.(\w+)", r"head/\1")
LAST_NORM = Rule(r"norm\.(\w+)", r"pre_head_layer_norm/\1")
PYRAMID_RULES = (  # of Vision Permutator and CycleMLP, after `by_stage`
    Rule(r"patch_embed\.proj\.(\w+)", r"stem/\1"),
    Rule(r"(downsampling_\d{1,4})\.proj\.(\w+)", r"\1/\2"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.norm1\.(\w+)", r"\1_block_\2_norm_0/\3"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.norm2\.(\w+)", r"\1_block_\2_norm_1/\3"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.mlp_h\.(\w+)", r"\1_block_\2_mixing/height/\3"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.mlp_w\.(\w+)", r"\1_block_\2_mixing/width/\3"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.mlp_c\.(\w+)", r"\1_block_\2_mixing/channels/\3"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.reweight\.(fc[12])\.(\w+)", r"\1_block_\2_mixing/reweight/\3/\4"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.proj\.(\w+)", r"\1_block_\2_mixing/projection/\3"),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.mlp\.(fc[12])\.(\w+)", r"\1_block_\2_channel_mlp/\3/\4"),
    LAST_NORM,
    HEAD,
)


def by_stage(arrays: dict) -> dict:
    """Renames `network.N` to its stage or downsampling, because the authors number both in one sequence."""
    matches = [(key, re.match(r"network\.(0|[1-9]\d{0,3})\.((?:proj|\d{1,4})\..*)", key)) for key in arrays]
    numbers = {int(match[1]): match[2].startswith("proj") for _, match in matches if match}
    names, stage = {}, -1
    for number in sorted(numbers):
        stage += not numbers[number]
        names[number] = f"downsampling_{stage}" if numbers[number] else f"stage_{stage}"
    return {f"{names[int(match[1])]}.{match[2]}" if match else key: arrays[key] for key, match in matches}
