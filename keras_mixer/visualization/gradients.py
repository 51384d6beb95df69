"""Attribution by derivatives. Only this file imports the backend's framework, because Keras cannot differentiate."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import positive_integer
from keras_mixer.sublayers import layers_on_path, replaced
from keras_mixer.visualization.parts import all_parts, checked_class, finite, mid_grey, patch_grid, several_images


def gradient_of(function: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that computes the derivative of `sum(function(inputs))` with respect to `inputs`.

    Args:
        function: Maps one tensor to another with Keras's layers and `keras.ops`.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def derivative(inputs):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                total = tf.reduce_sum(function(inputs))
            return tape.gradient(total, inputs)

    elif backend == "jax":
        import jax

        derivative = jax.grad(lambda inputs: function(inputs).sum())
    elif backend == "torch":
        import torch

        def derivative(inputs):
            with torch.enable_grad():
                return torch.autograd.grad(function(inputs.requires_grad_()).sum(), inputs)[0]

    else:
        raise ValueError(f"The backend {backend!r} of Keras has no derivatives: use tensorflow, jax or torch.")
    return lambda inputs: ops.convert_to_numpy(derivative(ops.convert_to_tensor(inputs, "float32")))


def grad_cam(
    model: keras.Model,
    image: np.ndarray,
    class_index: int | Sequence[int] | None = None,
    layer: str | keras.layers.Layer | None = None,
) -> np.ndarray:
    """Maps which tokens raise the score of a class, by Grad-CAM (Selvaraju et al., 2017, arXiv 1610.02391).

    The score is the logit, before the activation of the last layer. The function changes single layers while it runs,
    but only for its own thread. Other threads can use the model, but must not save it, meanwhile.

    Args:
        model: A classifier of one image input, which may contain other models.
        image: One preprocessed image `(height, width, channels)`, or several `(n, height, width, channels)`.
        class_index: The class, or one for each image; None for the one with the highest score.
        layer: The layer whose output is weighted, or its name. Slashes separate a layer from the layers inside it, as
            in "MixerBlock_3/token_mixing". The output must be tokens or a feature map. None takes the last such layer:
            the normalised tokens before the mean, or the last feature map of a pyramid.

    Returns:
        Non-negative values, `(rows, columns)` or `(n, rows, columns)`: the sum over the output's channels, each
        weighted by the mean over all positions of the logit's derivative. Negative sums become 0 (equations 1 and 2).

    Raises:
        ValueError: If an image, a class or the layer does not fit the model.

    Example:
        >>> heat = keras_mixer.visualization.grad_cam(model, image)
        >>> np.unravel_index(heat.argmax(), heat.shape)  # row and column of the patch that supports the class most
    """
    images = _images(model, image)
    chosen = _last_map(model) if layer is None else layer
    if not isinstance(chosen, keras.layers.Layer):
        chosen = layers_on_path(model, chosen)[-1]

    def heat(scores, one, target):
        call = chosen.call

        def output(images):
            seen = []

            def seeing(*arguments, **options):
                seen.append(call(*arguments, **options))
                return seen[-1]

            with replaced(chosen, "call", seeing):
                scores(images)
            if len(seen) != 1 or _grid(model, getattr(seen[0], "shape", ())) is None:
                raise ValueError(f"The layer {chosen.name!r} does not output tokens or a feature map of the patches.")
            return ops.cast(seen[0], "float32")

        values = ops.convert_to_numpy(output(one[None]))

        def shifted(offset):
            # Adding 0 to the output does not change the score. The derivative with respect to the 0 is the one we want.
            def with_offset(*arguments, **options):
                output = call(*arguments, **options)
                return output + ops.cast(offset, output.dtype)

            with replaced(chosen, "call", with_offset):
                return scores(one[None])[:, target]

        derivative = gradient_of(shifted)(np.zeros_like(values))
        places = tuple(range(1, values.ndim - 1))
        weighted = (values * derivative.mean(axis=places, keepdims=True)).sum(axis=-1)
        return np.maximum(weighted, 0.0).reshape(_grid(model, values.shape))

    results = _for_each_image(model, images, class_index, heat)
    return results[0] if np.ndim(image) == 3 else results


def integrated_gradients(
    model: keras.Model,
    image: np.ndarray,
    class_index: int | Sequence[int] | None = None,
    steps: int = 50,
    baseline: float | np.ndarray | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 10,
) -> np.ndarray:
    """Divides the score of a class among the pixels (Sundararajan et al., 2017, arXiv 1703.01365).

    The attributions sum to the score of the image minus the score of the baseline. More steps make the sum more exact.
    The score is the logit, before the activation of the last layer. Other threads can use the model meanwhile, as with
    `grad_cam`.

    Args:
        model: A classifier of one image input, which may contain other models.
        image: One preprocessed image `(height, width, channels)`, or several `(n, height, width, channels)`.
        class_index: The class, or one for each image; None for the one with the highest score.
        steps: Points on the straight line from the baseline to the image, at the middles of equal intervals.
        baseline: A neutral input, one number or an array that can be broadcast to `image`; None for mid grey.
        preprocessing: Preprocessing of the image, which determines mid grey; None for the model's own, or for [-1, 1]
            if it has none.
        batch_size: Points in one call.

    Returns:
        Attributions in the shape of `image`. A positive value means that the pixel supports the class.

    Raises:
        ValueError: If an image, a class or the baseline does not fit the model, or `steps` is not positive.

    Example:
        >>> attributions = keras_mixer.visualization.integrated_gradients(model, image, steps=100)
        >>> attributions.sum(axis=-1).shape == image.shape[:2]
        True
    """
    steps, batch_size = positive_integer("steps", steps), positive_integer("batch_size", batch_size)
    images = _images(model, image)
    start = mid_grey(images.shape[-1], preprocessing, model) if baseline is None else finite("The baseline", baseline)
    try:
        starts = np.broadcast_to(start, images.shape)
    except ValueError as error:
        raise ValueError(
            f"The baseline of shape {start.shape} does not fit images of shape {np.shape(image)}."
        ) from error
    remaining = iter(starts.reshape(-1, *images.shape[-3:]))

    def attributions(scores, one, target):
        start = next(remaining)
        total, derivative = np.zeros(one.shape), gradient_of(lambda points: scores(points)[:, target])
        for shares in np.array_split((np.arange(steps) + 0.5) / steps, math.ceil(steps / batch_size)):
            points = start + shares[:, None, None, None] * (one - start)
            total += derivative(points).sum(axis=0)
        return ((one - start) * total / steps).astype("float32")

    results = _for_each_image(model, images, class_index, attributions)
    return results[0] if np.ndim(image) == 3 else results


def _for_each_image(model, images: np.ndarray, class_index, attribution: Callable) -> np.ndarray:
    """Calls `attribution(scores, image, class)` for each image, where `scores` maps images to logits."""
    with _before_activation(model) as scores:
        results = []
        for index, one in enumerate(images):
            values = ops.convert_to_numpy(scores(one[None]))[0]
            asked = class_index if class_index is None or np.ndim(class_index) == 0 else list(class_index)
            if isinstance(asked, list) and len(asked) != len(images):
                raise ValueError(f"Expected one class or one for each of {len(images)} images, but got {asked}.")
            target = checked_class(model, values, asked[index] if isinstance(asked, list) else asked)
            results.append(attribution(scores, one, target))
    return np.stack(results)


def _images(model, image) -> np.ndarray:
    """Returns one image, or several, as `(n, height, width, channels)`."""
    return several_images(model, [image] if np.ndim(image) == 3 else image)


@contextlib.contextmanager
def _before_activation(model: keras.Model) -> Iterator[Callable]:
    """Yields a function from images to float32 scores before the activation of the last layer."""
    last = model
    if len(model.outputs) != 1:
        raise ValueError(f"Expected a model that scores classes, but {model.name!r} has {len(model.outputs)} outputs.")
    while isinstance(last, keras.Model) and last.layers:
        last = getattr(last, "operations", last.layers)[-1]
    with contextlib.ExitStack() as stack:
        if callable(getattr(last, "activation", None)):
            stack.enter_context(replaced(last, "activation", keras.activations.linear))
        elif type(last).__name__ in ("Softmax", "Sigmoid"):
            stack.enter_context(replaced(last, "call", lambda inputs, *_, **__: inputs))
        yield lambda images: ops.cast(model(images, training=False), "float32")


def _last_map(model: keras.Model) -> keras.layers.Layer:
    for layer in reversed(list(all_parts(model))):
        with contextlib.suppress(AttributeError, ValueError):  # it was not called, or gives several tensors
            if not isinstance(layer, keras.layers.InputLayer) and _grid(model, layer.output.shape):
                return layer
    raise ValueError(f"The model {model.name!r} has no layer of tokens or feature maps: name one in `layer`.")


def _grid(model: keras.Model, shape) -> tuple[int, int] | None:
    """Returns the rows and columns of an output `(n, tokens, channels)` or `(n, rows, columns, channels)`."""
    if len(shape) == 4:
        return tuple(shape[1:3])
    if len(shape) != 3:
        return None
    grid = patch_grid(model) or (math.isqrt(shape[1] or 0),) * 2
    return grid if math.prod(grid) == shape[1] else None
