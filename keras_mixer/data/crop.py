"""Random crops: Inception's, fused with the decoding of a JPEG, and the shift of small images."""

import tensorflow as tf

from keras_mixer.data.pixels import decode
from keras_mixer.preprocessing import Preprocessing


def inception_crop(
    image: tf.Tensor,
    preprocessing: Preprocessing,
    area: tuple[float, float],
    ratio: tuple[float, float],
    seed: tf.Tensor,
) -> tf.Tensor:
    """Resizes a random box of the image to the model's input size (Szegedy et al., 2015).

    Args:
        image: Encoded bytes, or a decoded uint8 image. Of a JPEG, only the box is decoded.
        preprocessing: Gives size, channels and interpolation; shrinking is not antialiased, as in the paper's code.
        area: Least and greatest share of the image.
        ratio: Least and greatest width over height.
        seed: Two integers.

    Returns:
        uint8 `(*image_size, channels)`.
    """

    def box(shape):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            bounding_boxes=tf.zeros((1, 0, 4)),
            seed=seed,
            min_object_covered=0.0,
            area_range=area,
            aspect_ratio_range=ratio,
            use_image_if_no_bounding_boxes=True,
        )
        return begin[0], begin[1], size[0], size[1]

    def from_decoded(decoded):
        top, left, height, width = box(tf.shape(decoded))
        return decoded[top : top + height, left : left + width]

    def from_jpeg():
        window = tf.stack(box(tf.image.extract_jpeg_shape(image)))
        return tf.image.decode_and_crop_jpeg(image, window, channels=preprocessing.channels)

    if image.dtype == tf.string:
        cropped = tf.cond(tf.io.is_jpeg(image), from_jpeg, lambda: from_decoded(decode(image, preprocessing.channels)))
    else:
        cropped = from_decoded(image)
    cropped = tf.ensure_shape(cropped, (None, None, preprocessing.channels))
    resized = tf.image.resize(cropped, preprocessing.image_size, method=preprocessing.interpolation)
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def padded_crop(image: tf.Tensor, padding: int, seed: tf.Tensor) -> tf.Tensor:
    """Shifts an image by up to `padding` pixels in each direction; black moves in."""
    height, width, _ = image.shape
    padded = tf.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    offset = tf.random.stateless_uniform((2,), seed, 0, 2 * padding + 1, tf.int32, alg="philox")
    return tf.ensure_shape(padded[offset[0] : offset[0] + height, offset[1] : offset[1] + width], image.shape)
