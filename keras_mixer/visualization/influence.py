"""Which patches a patch listens to: the Jacobian of token mixing at a given image."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_mixer.visualization.parts import block_of, grid_of

AT_ONCE = 16  # tokens differentiated together; a table of tokens by channels is held for each


def influence_maps(
    model: keras.Model,
    image: np.ndarray,
    block: int,
    tokens: Sequence[int] | None = None,
    *,
    probes: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Returns how strongly each patch acts on chosen tokens through the token-mixing MLP of a block.

    The entry for token t and patch s is the norm of the derivative of the MLP's output for t by its (normalised)
    input for s, `||d out[t] / d in[s]||` divided by the root of the number of channels, at this image: the root mean
    square over channels. It is found by backpropagation from channels of random sign. Where every channel is mixed on
    its own, which is so unless `channel_groups` joins some, signs do not matter and one probe is exact; otherwise the
    squares of `probes` probes are averaged and the result is an unbiased estimate of the square.

    Args:
        model: A Mixer.
        image: One preprocessed image, `(height, width, channels)`.
        block: Index of the block, counted from 0.
        tokens: Tokens whose influences are asked for; None for all.
        probes: Number of random probes.
        seed: Seed of their signs.

    Returns:
        Influences `(tokens asked for, rows, columns)`, not negative.

    Raises:
        ValueError: If there is no such block or token, or the image has another shape.

    Example:
        >>> maps = keras_mixer.visualization.influence_maps(model, image, block=0, tokens=[0])
        >>> maps[0].argmax()  # the patch that the first token listens to most
    """
    layer = block_of(model, block)
    expected = tuple(model.input_shape[1:])
    if np.shape(image) != expected:
        raise ValueError(f"Expected one image of shape {expected}, but got {np.shape(image)}.")
    # Called, not predicted: for one image a compiled function would take longer to make than to run.
    before = keras.Model(model.inputs[0], layer.input)
    table = layer.layer_norm_0(before(np.asarray(image, "float32")[None], training=False))
    table = ops.convert_to_numpy(ops.cast(table, "float32"))  # (1, tokens, channels)
    grid = grid_of(model, table.shape[1])
    tokens_out, channels = layer.output.shape[1:]
    asked = list(range(tokens_out)) if tokens is None else list(tokens)
    if any(not 0 <= token < tokens_out for token in asked):
        raise ValueError(f"Block {block} puts out tokens 0 to {tokens_out - 1}; got {asked}.")

    rng = np.random.default_rng(seed)
    squares = np.zeros((len(asked), table.shape[1]))
    at_once = min(AT_ONCE, len(asked))
    gradient = _Gradient(layer.token_mixing, (at_once, *table.shape[1:]))
    for _ in range(probes):
        for start in range(0, len(asked), at_once):
            part = asked[start : start + at_once]
            signs = np.zeros((at_once, tokens_out, channels), "float32")
            for row, token in enumerate(part):
                signs[row, token] = rng.choice([-1.0, 1.0], size=channels)
            derivatives = gradient(np.repeat(table, at_once, axis=0), signs)[: len(part)]
            squares[start : start + len(part)] += np.mean(derivatives.astype("float64") ** 2, axis=-1)
    return np.sqrt(squares / probes).reshape(len(asked), *grid)


class _Gradient:
    """Derivative of `sum(cotangent * layer(inputs))` by the inputs, on whatever backend Keras runs.

    Keras offers no function for gradients, but every backend can train: the derivative is what a step of gradient
    descent at learning rate 1 takes off an offset that is added to the inputs.
    """

    def __init__(self, layer: keras.layers.Layer, shape: tuple[int, int, int]):
        frozen = type(layer).from_config({**layer.get_config(), "dtype": "float32"})
        frozen.build((None, *shape[1:]))
        frozen.set_weights(layer.get_weights())
        self._offset = _Offset(frozen, shape)
        self._model = keras.Sequential([keras.Input(shape[1:], batch_size=shape[0]), self._offset])
        self._model.compile(keras.optimizers.SGD(1.0), _InnerProduct(), jit_compile=False)

    def __call__(self, inputs: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        self._offset.offset.assign(np.zeros(self._offset.offset.shape))
        self._model.train_on_batch(inputs, cotangent)
        return -ops.convert_to_numpy(self._offset.offset)


class _Offset(keras.layers.Layer):
    def __init__(self, layer: keras.layers.Layer, shape: tuple[int, int, int]):
        super().__init__(dtype="float32")
        layer.trainable = False
        self.layer = layer
        self.offset = self.add_weight(name="offset", shape=shape, initializer="zeros")

    def call(self, inputs):
        return self.layer(inputs + self.offset, training=False)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


class _InnerProduct(keras.losses.Loss):
    def __init__(self):
        super().__init__(reduction="sum", dtype="float32")

    def call(self, y_true, y_pred):
        return ops.sum(y_true * y_pred, axis=(1, 2))
