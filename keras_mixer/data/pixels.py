"""From the bytes of an image file to the input of a model, by TensorFlow operations without randomness.

Every function works eagerly, inside `tf.data` and inside a `tf.function` that is exported.
"""

import tensorflow as tf

from keras_mixer.data.gif import first_frame_as_png, is_gif
from keras_mixer.preprocessing import Preprocessing

# If an image is longer than this many times what the margin leaves, only its middle is read.
LONGEST = 4
# Pixels that the widest kernel, lanczos5, reads on each side: of the image given or the one made, whichever are larger.
REACH = 5
# Number of values of the unfinished picture beyond which resampling takes the axes in the other order.
UNFINISHED_LIMIT = 2**24


def preprocess(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Turns encoded bytes, a scalar string, into the model's input: float32 `(height, width, channels)`."""
    return apply(decode(encoded, preprocessing.channels), preprocessing)


def decode(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes a JPEG, PNG or GIF (its first frame) to uint8 `(any height, any width, channels)`.

    An orientation in EXIF data is not applied, and transparency is dropped.

    Raises:
        ValueError: If `channels` is neither 3 (RGB) nor 1 (grey).
        tf.errors.InvalidArgumentError: When the operation runs, if the bytes are not such an image.
    """
    if channels not in (1, 3):
        raise ValueError(f"Image files are decoded to 3 channels (RGB) or 1 (grey), but the model takes {channels}.")
    encoded = tf.convert_to_tensor(encoded)
    encoded = tf.cond(is_gif(encoded), lambda: first_frame_as_png(encoded), lambda: encoded)
    # One operation reads both other formats. The accurate inverse DCT is what PIL and other servers use.
    image = tf.io.decode_jpeg(encoded, channels=channels, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(image, (None, None, channels))


def apply(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """A decoded image with values in [0, 255], any size and real dtype, to the model's input."""
    return normalize(fit(image, preprocessing), preprocessing)


def fit(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Resizes (and crops) an image to float32 `(*image_size, channels)`, values still in [0, 255]."""
    height, width = preprocessing.image_size
    if preprocessing.resize == "direct":
        fitted = resample(image, preprocessing.image_size, preprocessing.interpolation)
    else:
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        # One factor for each axis.
        scale = tf.constant(preprocessing.image_size, tf.float32) * (1 / preprocessing.crop_share) / size
        if preprocessing.resize == "crop":
            scale = tf.reduce_max(scale)
            image = _middle(image, scale, preprocessing)
            size = tf.cast(tf.shape(image)[:2], tf.float32)
        # Rounding may not undercut the crop.
        resized = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), preprocessing.image_size)
        top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
        fitted = resample(image, resized, preprocessing.interpolation)[top : top + height, left : left + width]
    return tf.ensure_shape(fitted, preprocessing.input_shape)


def resample(image: tf.Tensor, size, interpolation: str) -> tf.Tensor:
    """Resizes to `size` with this interpolation, float32 in [0, 255]."""

    def resize(source, to):
        return tf.cast(tf.image.resize(source, to, method=interpolation, antialias=True), tf.float32)

    # TensorFlow brings the height to its size first. Where the height grows and the width shrinks by far, what is
    # then unfinished would take gigabytes, so the width goes first.
    given = tf.shape(image)
    unfinished = tf.cast(size[0], tf.int64) * tf.cast(given[1], tf.int64) * image.shape[2]
    resized = tf.cond(
        (given[0] < size[0]) & (unfinished > UNFINISHED_LIMIT),
        lambda: resize(resize(image, (given[0], size[1])), size),
        lambda: resize(image, size),
    )
    # Cubic and Lanczos kernels overshoot at edges.
    return tf.clip_by_value(resized, 0.0, 255.0)


def _middle(image: tf.Tensor, scale: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Cuts both ends off an image that is too long for its crop to see them; leaves photographs whole.

    To scale the whole of a line of pixels until its shorter side fills the crop would take gigabytes.
    """
    size = tf.shape(image)[:2]
    longest = LONGEST / preprocessing.crop_share * tf.constant(preprocessing.image_size, tf.float32) / scale
    longest += 2 * REACH * tf.maximum(1.0, 1.0 / scale)
    # As much from both ends, so that the centre stays where it is.
    cut = tf.maximum(size - tf.cast(tf.math.ceil(longest), tf.int32), 0) // 2
    return image[cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]


def normalize(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Scales `(..., channels)` from [0, 255] to the model's range, float32."""
    mean, std = tf.constant(preprocessing.mean, tf.float32), tf.constant(preprocessing.std, tf.float32)
    return (tf.cast(pixels, tf.float32) - 255.0 * mean) / (255.0 * std)
