"""Which part of a photo a class score rests on: what is lost where a patch is covered."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixer.layers.helpers import pair_of_positive_integers
from keras_mixer.visualization.scale import Preprocessing, mid_grey


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
    """Covers the image with a window, place by place, and maps how far the score of a class falls.

    Zeiler and Fergus, 2014 (arXiv 1311.2901), section 4.2.

    Args:
        model: A classifier of one image input.
        image: One preprocessed image, `(height, width, channels)`.
        class_index: The class; None for the one with the highest score on the whole image.
        window: Pixels that are covered, one integer or (height, width); None for an eighth of each side.
        stride: Pixels between two places; None for half a window.
        fill: What the model is fed for covered pixels, one number or one per channel; None for mid grey.
        preprocessing: What the image went through, such as a model card's, to know mid grey; None for [-1, 1].
        batch_size: Images of one call.

    Returns:
        For each pixel the mean fall of the score over the windows that cover it, `(height, width)`. Positive where
        the score rests on the pixel.

    Raises:
        ValueError: If the image does not fit the model, or an argument is out of range.

    Example:
        >>> saliency = keras_mixer.visualization.occlusion_saliency(model, image)
        >>> np.unravel_index(saliency.argmax(), saliency.shape)
    """
    image = np.asarray(image, "float32")
    expected = tuple(model.input_shape[1:])
    if image.shape != expected:
        raise ValueError(f"Expected one image of shape {expected}, but got {image.shape}.")
    height, width, channels = image.shape
    cover = mid_grey(channels, preprocessing) if fill is None else fill
    window_height, window_width = pair_of_positive_integers(
        "window", window or (max(1, height // 8), max(1, width // 8))
    )
    if window_height > height or window_width > width:
        raise ValueError(f"A window of {window_height} x {window_width} is larger than the image.")
    steps = pair_of_positive_integers("stride", stride or (max(1, window_height // 2), max(1, window_width // 2)))
    places = [
        (top, left)
        for top in _places(height, window_height, steps[0])
        for left in _places(width, window_width, steps[1])
    ]
    whole = model.predict_on_batch(image[None])[0]
    target = int(whole.argmax()) if class_index is None else class_index
    if not 0 <= target < len(whole):
        raise ValueError(f"The model scores {len(whole)} classes; got class {target}.")

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
    return fall / np.maximum(covered, 1)  # strides beyond the window leave pixels out


def _places(length: int, window: int, stride: int) -> list[int]:
    """Starts of windows that reach both ends."""
    return sorted({*range(0, length - window + 1, stride), length - window})
