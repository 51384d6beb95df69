"""What an output depends on: the patches that influence a token, and the pixels that support a class."""

import itertools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import pair_of_positive_integers, positive_integer
from keras_mixer.visualization.gradients import gradient_of
from keras_mixer.visualization.parts import (
    block_of,
    checked_class,
    checked_index,
    finite,
    grid_of,
    mid_grey,
    one_image,
)

AT_ONCE = 16  # tokens differentiated together; each needs a table of tokens by channels


def influence_maps(
    model: keras.Model,
    image: np.ndarray,
    block: int,
    tokens: Sequence[int] | None = None,
    *,
    probes: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Returns how strongly each patch influences chosen tokens through the token-mixing MLP of a block.

    The MLP reads normalised tokens. The influence of patch s on token t is the norm of a derivative divided by the
    square root of the number of channels, `||d out[t] / d in[s]|| / sqrt(channels)`. It is computed by backpropagating
    random signs, one per channel (a probe). One probe is exact unless `channel_groups` joins channels. In that case the
    mean square over `probes` probes is an unbiased estimate of the squared influence.

    Args:
        model: A Mixer.
        image: One preprocessed image, `(height, width, channels)`.
        block: Index of the block, counted from 0.
        tokens: Indices of the tokens; None for all.
        probes: Number of random probes.
        seed: Seed of the random signs.

    Returns:
        Non-negative influences, `(len(tokens), rows, columns)`.

    Raises:
        ValueError: If the block or a token does not exist, or the image has another shape.

    Example:
        >>> maps = keras_mixer.visualization.influence_maps(model, image, block=0, tokens=[0])
        >>> maps[0].argmax()  # the patch that influences the first token most
    """
    layer, probes = block_of(model, block), positive_integer("probes", probes)
    image = one_image(model, image)
    # A direct call, because `predict` would compile for longer than one image takes.
    before = keras.Model(model.inputs[0], layer.input)
    table = layer.layer_norm_0(before(image[None], training=False))
    table = ops.convert_to_numpy(ops.cast(table, "float32"))  # (1, tokens, channels)
    grid = grid_of(model, table.shape[1])
    tokens_out, channels = layer.output.shape[1:]
    if tokens is not None and (isinstance(tokens, str) or not np.iterable(tokens)):
        raise ValueError(f"`tokens` must be a sequence of integers, but got {tokens!r}.")
    chosen = list(range(tokens_out) if tokens is None else tokens)
    message = f"Block {block} outputs tokens 0 to {tokens_out - 1}; got {chosen}."
    asked = [checked_index(token, tokens_out, message) for token in chosen]

    rng = np.random.default_rng(seed)
    squares = np.zeros((len(asked), table.shape[1]))
    mixing = type(layer.token_mixing).from_config({**layer.token_mixing.get_config(), "dtype": "float32"})
    mixing.build(table.shape)
    mixing.set_weights(layer.token_mixing.get_weights())
    for _ in range(probes):
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            signs = np.zeros((len(part), tokens_out, channels), "float32")
            for row, token in enumerate(part):
                signs[row, token] = rng.choice([-1.0, 1.0], size=channels)
            derivatives = _vector_jacobian(mixing, np.repeat(table, len(part), axis=0), signs)
            squares[start : start + len(part)] += np.mean(derivatives.astype("float64") ** 2, axis=-1)
    return np.sqrt(squares / probes).reshape(len(asked), *grid)


def _vector_jacobian(layer: keras.layers.Layer, inputs: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    return gradient_of(lambda tokens: layer(tokens, training=False) * ops.convert_to_tensor(cotangent))(inputs)


def occlusion_saliency(
    model: keras.Model,
    image: np.ndarray,
    class_index: int | None = None,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: float | Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Slides a covering window over the image and maps how far the score of a class falls.

    See section 4.2 of Zeiler and Fergus, 2014 (arXiv 1311.2901).

    Args:
        model: A classifier of one image input.
        image: One preprocessed image, `(height, width, channels)`.
        class_index: The class; None for the one with the highest score on the uncovered image.
        window: Size of the window in pixels, one integer or (height, width); None for an eighth of each side.
        stride: Pixels between two positions of the window; None for half a window.
        fill: Model input for covered pixels, one number or one per channel; None for mid grey.
        preprocessing: Preprocessing of the image, which determines mid grey; None for the model's own, or for [-1, 1]
            if it has none.
        batch_size: Images in one call.

    Returns:
        An array `(height, width)`. Each value is the mean fall of the score over the windows that cover the pixel. A
        positive value means that the pixel supports the class.

    Raises:
        ValueError: If the image does not fit the model, or an argument is out of range.

    Example:
        >>> saliency = keras_mixer.visualization.occlusion_saliency(model, image)
        >>> np.unravel_index(saliency.argmax(), saliency.shape)
    """
    image = one_image(model, image)
    height, width, channels = image.shape
    batch_size = positive_integer("batch_size", batch_size)
    cover = mid_grey(channels, preprocessing, model) if fill is None else finite("`fill`", fill)
    if np.shape(cover) not in ((), (channels,)):
        raise ValueError(f"`fill` must be one number or one per channel ({channels}), but got {fill!r}.")
    if window is None:
        window = max(1, height // 8), max(1, width // 8)
    window_height, window_width = pair_of_positive_integers("window", window)
    if window_height > height or window_width > width:
        raise ValueError(f"A window of {window_height} x {window_width} is larger than the image.")
    if stride is None:
        stride = max(1, window_height // 2), max(1, window_width // 2)
    steps = pair_of_positive_integers("stride", stride)
    tops, lefts = _places(height, window_height, steps[0]), _places(width, window_width, steps[1])
    places = list(itertools.product(tops, lefts))
    outputs = model.predict_on_batch(image[None])
    whole = outputs[0] if isinstance(outputs, np.ndarray) else outputs
    target = checked_class(model, whole, class_index)

    fall, covered = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(places), batch_size):
        part = places[start : start + batch_size]
        batch = np.repeat(image[None], len(part), axis=0)
        for one, (top, left) in zip(batch, part, strict=True):
            one[top : top + window_height, left : left + window_width] = cover
        scores = model.predict_on_batch(batch)[:, target]
        for score, (top, left) in zip(scores, part, strict=True):
            area = (slice(top, top + window_height), slice(left, left + window_width))
            fall[area] += float(whole[target]) - float(score)
            covered[area] += 1
    return fall / np.maximum(covered, 1)  # a stride above the window leaves pixels out


def _places(length: int, window: int, stride: int) -> list[int]:
    """Returns the starts of the windows; the first and the last window touch the ends."""
    return sorted({*range(0, length - window + 1, stride), length - window})
