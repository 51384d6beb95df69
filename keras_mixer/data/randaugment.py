"""RandAugment (Cubuk et al., 2019) with the operations and the strength scale of the AutoAugment code.

On that scale 10 is the nominal greatest level and nothing stops there: Mixer's recipes use 15 and 20. What its code
computed beyond 10 is kept, see `arguments`.
"""

import tensorflow as tf

from keras_mixer.data import image_ops

NAMES = (
    "autocontrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "cutout",
    "solarize_add",
)
DRAWS_PER_LAYER = 4  # which operation, which sign, where (y, x)


def arguments(magnitude: float) -> dict[str, float]:
    """What an operation receives at a magnitude, before the random sign; operations without argument are absent.

    Rotation is in degrees, a shear in pixels per pixel. `translate_*` and `cutout` are shares of the image's side, of
    which the paper's code took 100 and 40 pixels at 224. Three operations do not extrapolate:

    - The threshold of `solarize` wraps around at 256, as it did where that code compared bytes: level 10 and 20 invert
      the image, level 15 solarizes at 128.
    - `posterize` keeps at most all 8 bits (reached at 20) and at least 1.
    - `solarize_add` adds at most 255.
    """
    level = magnitude / 10.0
    enhancement = 0.1 + 1.8 * level
    return {
        "rotate": 30.0 * level,
        "posterize": min(max(int(4 * level), 1), 8),
        "solarize": int(256 * level) % 256,
        "color": enhancement,
        "contrast": enhancement,
        "brightness": enhancement,
        "sharpness": enhancement,
        "shear_x": 0.3 * level,
        "shear_y": 0.3 * level,
        "translate_x": 100 / 224 * level,
        "translate_y": 100 / 224 * level,
        "cutout": 40 / 224 * level,
        "solarize_add": min(int(110 * level), 255),
    }


def randaugment(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    """Applies one operation after the other, each drawn from `NAMES` with equal chance.

    Args:
        image: uint8 `(height, width, channels)` with a static shape of 1 or 3 channels.
        draws: float32 `(layers, DRAWS_PER_LAYER)`, uniform in [0, 1).
        magnitude: Strength of all operations, at least 0.

    Returns:
        An image of the same shape and type.
    """
    for layer in range(draws.shape[0]):
        image = _layer(image, draws[layer], magnitude)
    return image


def _layer(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    height, width, _ = image.shape
    values = arguments(magnitude)
    sides = {"translate_x": width, "translate_y": height}
    sign = tf.where(draws[1] < 0.5, -1.0, 1.0)

    def operation(name):
        function = getattr(image_ops, name)
        if name == "cutout":
            half = [int(values[name] * height), int(values[name] * width)]
            center = tf.cast(draws[2:4] * (height, width), tf.int32)
            return lambda: function(image, tf.constant(half), center)
        if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
            return lambda: function(image, sign * (values[name] * sides.get(name, 1)))
        return (lambda: function(image, values[name])) if name in values else (lambda: function(image))

    chosen = tf.minimum(tf.cast(draws[0] * len(NAMES), tf.int32), len(NAMES) - 1)
    return tf.ensure_shape(tf.switch_case(chosen, [operation(name) for name in NAMES]), image.shape)
