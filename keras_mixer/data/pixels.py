"""From the bytes of an image file to the input of a model, in TensorFlow and without randomness.

Every function works eagerly and inside `tf.data`. All but `read` and `read_box`, which call Python, also work inside a
`tf.function` that is exported.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_mixer import images
from keras_mixer.data import orientation
from keras_mixer.data.orientation import bytes_at, choose, number
from keras_mixer.images import BMP_START, GIF_START, JPEG_START, LARGE, MAX_PIXELS, PNG_START
from keras_mixer.preprocessing import LONGEST, REACH, UNFINISHED_LIMIT, Preprocessing

_JPEG_VALUES = 2**29  # TensorFlow's decoder refuses a JPEG of so many
_CMYK = 4  # channels; TensorFlow turns such a JPEG into RGB, but not into grey
_HEADER = 64  # bytes in which GIF, BMP and WebP say all that is asked

# From a scalar string and a number of channels to uint8 `(height, width, channels)`.
Read = Callable[[tf.Tensor, int], tf.Tensor]


def preprocess(encoded: tf.Tensor, preprocessing: Preprocessing, read: Read | None = None) -> tf.Tensor:
    """Turns encoded bytes, a scalar string, into the model's input: float32 `(height, width, channels)`.

    `read` decodes them, by default `decode`.
    """
    return apply((read or decode)(encoded, preprocessing.channels), preprocessing)


def decode(
    encoded: tf.Tensor,
    channels: int = 3,
    *,
    max_pixels: int | None = MAX_PIXELS,
    webp: bool = False,
    large: bool = True,
) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or GIF (its first frame) by TensorFlow operations alone, and turns it upright.

    Transparency is dropped; in a GIF it becomes black. The operations fail on other bytes and on larger images.
    TensorFlow does not decode a JPEG of 2**29 values, 179 megapixels in colour: that is read at half width and height.

    Args:
        encoded: The bytes of the file, a scalar string.
        channels: 3 for RGB, 1 for grey.
        max_pixels: The most pixels (height x width) of an image; None if size and format have been checked.
        webp: Whether to read WebP images too. Their operation is not in every TensorFlow.
        large: Whether images of more than 2**26 pixels may come.

    Returns:
        uint8 `(any height, any width, channels)`.
    """
    return _decoder(channels, max_pixels, webp, large)(encoded)


def read(encoded: tf.Tensor, channels: int = 3, *, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Decodes an image of any format that `keras_mixer.images.decode` reads, where Python runs.

    Pillow reads what `decode` cannot, and images of more than 2**26 pixels, one at a time.
    """

    def by_pillow(data):
        data = data if isinstance(data, bytes) else data.item()  # an array of eager execution
        try:
            return images.decode(data, channels, max_pixels)
        except ImportError as error:  # TensorFlow would not say that the image is at fault
            raise ValueError(str(error)) from error

    image = tf.cond(
        _allowed(declared_size(encoded), min(max_pixels, LARGE)),
        lambda: decode(encoded, channels, max_pixels=None, large=False),
        lambda: tf.ensure_shape(tf.numpy_function(by_pillow, [encoded], tf.uint8), (None, None, channels)),
    )
    return tf.ensure_shape(image, (None, None, channels))


def read_box(
    encoded: tf.Tensor, box: Callable[[tf.Tensor], tf.Tensor], channels: int, *, max_pixels: int = MAX_PIXELS
) -> tf.Tensor:
    """Decodes a part of an upright image, as `read` does, and of a JPEG only this part.

    Args:
        encoded: The bytes of the file, a scalar string.
        box: Maps the image's shape, int32 (height, width, channels), to the part's top, left, height and width.
        channels: 3 for RGB, 1 for grey.
        max_pixels: The most pixels of the whole image.

    Returns:
        uint8 `(height, width, channels)`.
    """

    @orientation.not_inlined
    def of_whole():
        image = read(encoded, channels, max_pixels=max_pixels)
        top, left, height, width = tf.unstack(box(tf.shape(image)))
        return image[top : top + height, left : left + width]

    @orientation.not_inlined
    def of_turned_jpeg(shape):
        turn = orientation.of_jpeg(encoded)
        seen = tf.where(turn >= 5, tf.gather(shape, [1, 0, 2]), shape)
        window = orientation.stored_window(box(seen), seen[:2], turn)
        return orientation.upright(tf.image.decode_and_crop_jpeg(encoded, window, channels=channels), turn)

    @orientation.not_inlined
    def of_unusual_jpeg(shape):
        by_parts = _allowed(tf.cast(shape[:2], tf.int64), min(max_pixels, LARGE))
        if channels == 1:
            by_parts &= shape[2] != _CMYK
        return tf.cond(by_parts, lambda: of_turned_jpeg(shape), of_whole)

    def of_jpeg():
        # Every operation here is paid for by every image, so these are few.
        shape = tf.image.extract_jpeg_shape(encoded)
        usual = tf.reduce_prod(tf.cast(shape, tf.int64)) <= min(max_pixels, LARGE)
        usual &= orientation.lacks(encoded, orientation.JPEG_MARK)
        if channels == 1:
            usual &= shape[2] != _CMYK
        return tf.cond(
            usual,
            lambda: tf.image.decode_and_crop_jpeg(encoded, box(shape), channels=channels),
            lambda: of_unusual_jpeg(shape),
        )

    return tf.ensure_shape(tf.cond(_begins(encoded, JPEG_START), of_jpeg, of_whole), (None, None, channels))


def declared_size(encoded: tf.Tensor, *, webp: bool = False) -> tf.Tensor:
    """Reads the stored height and width from the header of an image that `decode` reads.

    Returns:
        int64 `(2,)`; zeros for other bytes. The size of a GIF is that of its canvas.
    """
    return _size_reader(webp)(encoded)


def apply(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Turns a decoded image of any size and real dtype, with values in [0, 255], into the model's input."""
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
        # Rounding must not make the image smaller than the crop.
        resized = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), preprocessing.image_size)
        top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
        fitted = resample(image, resized, preprocessing.interpolation)[top : top + height, left : left + width]
    return tf.ensure_shape(fitted, preprocessing.input_shape)


def resample(image: tf.Tensor, size, interpolation: str) -> tf.Tensor:
    """Resizes to `size` with this interpolation, float32 in [0, 255]."""

    def resize(source, to):
        return tf.cast(tf.image.resize(source, to, method=interpolation, antialias=True), tf.float32)

    # TensorFlow resizes the height first. If the height grows and the width shrinks, the image between the two steps
    # could take gigabytes; the width then goes first.
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
    """Cuts off both ends of a very long image, because the crop does not show them; photographs stay whole.

    Resizing a line of pixels until its shorter side fills the crop would take gigabytes.
    """
    size = tf.shape(image)[:2]
    longest = LONGEST / preprocessing.crop_share * tf.constant(preprocessing.image_size, tf.float32) / scale
    longest += 2 * REACH * tf.maximum(1.0, 1.0 / scale)
    # Both ends lose the same, so that the centre stays in place.
    cut = tf.maximum(size - tf.cast(tf.math.ceil(longest), tf.int32), 0) // 2
    return image[cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]


def normalize(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Scales `(..., channels)` from [0, 255] to the model's range, float32."""
    mean, std = tf.constant(preprocessing.mean, tf.float32), tf.constant(preprocessing.std, tf.float32)
    return (tf.cast(pixels, tf.float32) - 255.0 * mean) / (255.0 * std)


def attempt(function: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor, otherwise: tf.Tensor):
    """Returns `function(value)` if that succeeds, else `otherwise`: a `try` inside a graph.

    Any error of the function's operations counts as failure. If the shape of its result is static, `otherwise` has that
    shape. The second result is a bool scalar: whether `function` succeeded.
    """
    no_autograph = tf.autograph.experimental.do_not_convert
    tried = tf.data.Dataset.from_tensors(value).map(no_autograph(lambda argument: (function(argument), True)))
    failed = tf.data.Dataset.from_tensors((otherwise, False))
    return first_success(tried, failed)


def attempt_each(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor, otherwise: tf.Tensor):
    """Returns the results of `function`, of one static shape, for each of `values`, and `otherwise` where it fails.

    The second result is bool `(n,)`: where `function` succeeded. All are tried at once; only if one of them fails, each
    is tried alone.
    """
    no_autograph = tf.autograph.experimental.do_not_convert

    def shaped(result):
        return tf.ensure_shape(result, otherwise.shape)

    @no_autograph
    def sure(value):
        return shaped(function(value)), True

    @no_autograph
    def careful(value):
        result, succeeded = attempt(function, value, otherwise)
        return shaped(result), succeeded

    examples, count = tf.data.Dataset.from_tensor_slices(values), tf.size(values, out_type=tf.int64)
    return first_success(*(examples.map(one).batch(count, drop_remainder=True) for one in (sure, careful)))


def first_success(tried: tf.data.Dataset, otherwise: tf.data.Dataset):
    """Returns the first element of `tried`; if that fails, runs `otherwise` and returns its first element.

    One call costs about 0.1 ms whatever it tries, so it should try many images at once.
    """
    # `Dataset.reduce` would be shorter to write and a hundred times slower.
    return tried.ignore_errors().concatenate(otherwise).take(1).get_single_element()


# Each of these is traced once, because tracing it for every pipeline would take longer than reading a small dataset.
_traced_once = functools.partial(tf.function, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


@functools.lru_cache
def _decoder(channels: int, max_pixels: int | None, webp: bool, large: bool):
    if channels not in (1, 3):
        raise ValueError(f"Image files are decoded to 3 channels (RGB) or 1 (grey), but the model takes {channels}.")

    @_traced_once
    def decoder(encoded):
        if max_pixels is not None:
            size = declared_size(encoded, webp=webp)
            message = (
                f"The image has more than {max_pixels} pixels, or a format that is not supported; its declared height "
                f"and width are"
            )
            with tf.control_dependencies([tf.debugging.Assert(_allowed(size, max_pixels), [message, size])]):
                encoded = tf.identity(encoded)
        image = _by_format(
            encoded,
            jpeg=lambda: _jpeg(encoded, channels, large),
            png=lambda: _in_channels(_png(encoded), channels),
            other=lambda: _in_channels(_other(webp)(encoded), channels),
        )
        return tf.ensure_shape(image, (None, None, channels))

    return decoder


@functools.lru_cache
def _size_reader(webp: bool):
    @_traced_once
    def size_reader(encoded):
        def of_png():
            header = bytes_at(encoded, 16, 8)
            return tf.stack([number(header[4:]), number(header[:4])])

        return _by_format(
            encoded,
            jpeg=lambda: tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64),
            png=of_png,
            other=lambda: _other_size(webp)(encoded),
        )

    return size_reader


def _allowed(size: tf.Tensor, max_pixels: int) -> tf.Tensor:
    pixels = size[0] * size[1]
    return (pixels > 0) & (pixels <= max_pixels)


def _begins(encoded: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(start)) == start


def _by_format(encoded: tf.Tensor, *, jpeg: Callable, png: Callable, other: Callable) -> tf.Tensor:
    return tf.cond(_begins(encoded, JPEG_START), jpeg, lambda: tf.cond(_begins(encoded, PNG_START), png, other))


def _in_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Turns RGB into grey by Pillow's formula (ITU-R 601-2), if one channel is asked for."""
    if channels == 3:
        return image
    parts = tf.cast(image, tf.int32) * [19595, 38470, 7471]
    grey = tf.bitwise.right_shift(tf.reduce_sum(parts, axis=-1, keepdims=True) + 2**15, 16)
    return tf.cast(grey, tf.uint8)


def _turned_by(encoded: tf.Tensor, image: tf.Tensor, mark: str, find: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    image = tf.ensure_shape(image, (None, None, image.shape[-1]))
    return tf.cond(orientation.lacks(encoded, mark), lambda: image, lambda: orientation.upright(image, find(encoded)))


def _jpeg(encoded: tf.Tensor, channels: int, large: bool) -> tf.Tensor:
    shape = tf.image.extract_jpeg_shape(encoded)

    def decoded(channels):
        # Pillow and other servers use the accurate inverse DCT too.
        decode = functools.partial(tf.io.decode_jpeg, encoded, channels=channels, dct_method="INTEGER_ACCURATE")
        if not large:
            return decode()
        return tf.cond(tf.reduce_prod(tf.cast(shape, tf.int64)) < _JPEG_VALUES, decode, lambda: decode(ratio=2))

    image = (
        decoded(channels)
        if channels == 3
        else tf.cond(shape[2] == _CMYK, lambda: _in_channels(decoded(3), 1), lambda: decoded(1))
    )
    return _turned_by(encoded, image, orientation.JPEG_MARK, orientation.of_jpeg)


def _png(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_png(encoded, channels=3)
    return _turned_by(encoded, image, orientation.PNG_MARK, orientation.of_png)


@functools.lru_cache
def _other(webp: bool):
    @orientation.not_inlined_of_bytes
    def other(encoded):
        *formats, (_, _, last) = _other_formats(encoded, webp)
        return tf.case([(it, decoded) for it, _, decoded in formats], default=last)

    return other


@functools.lru_cache
def _other_size(webp: bool):
    @orientation.not_inlined_of_bytes
    def other_size(encoded):
        return tf.add_n([choose(it, size, 0) for it, size, _ in _other_formats(encoded, webp)])

    return other_size


def _other_formats(encoded: tf.Tensor, webp: bool) -> list[tuple[tf.Tensor, tf.Tensor, Callable[[], tf.Tensor]]]:
    """Returns whether the bytes are of a format, their height and width if so, and what decodes them to RGB."""
    header = bytes_at(encoded, 0, _HEADER)

    def little(start, end):
        return number(header[start:end][::-1])

    bits = little(28, 30)
    # Other layouts would be taken for what they are not: 16 bits, compressed ones, and those of OS/2.
    plain = (little(14, 18) >= 40) & ((bits == 8) | (bits == 24) | (bits == 32)) & (little(30, 34) == 0)
    # Lines from the top down have a negative height.
    height = tf.abs(tf.cast(tf.cast(little(22, 26), tf.int32), tf.int64))
    formats = [
        (
            _begins(encoded, BMP_START) & plain,
            tf.stack([height, little(18, 22)]),
            lambda: _bmp(encoded, bits, height, little),
        ),
        (_begins(encoded, GIF_START), tf.stack([little(8, 10), little(6, 8)]), lambda: _gif(encoded)),
    ]
    if webp:
        # The three kinds of the container's specification; animations would need another operation.
        lossy, lossless, extended = (tf.reduce_all(header[12:16] == [*kind]) for kind in (b"VP8 ", b"VP8L", b"VP8X"))
        sides = choose(
            extended,
            tf.stack([little(27, 30) + 1, little(24, 27) + 1]),
            choose(
                lossless,
                tf.stack([tf.bitwise.right_shift(little(21, 25), 14) % 2**14 + 1, little(21, 23) % 2**14 + 1]),
                tf.stack([little(28, 30) % 2**14, little(26, 28) % 2**14]),
            ),
        )
        still = lossy | lossless | (extended & (header[20] & 2 == 0))
        formats.append((_begins(encoded, b"RIFF") & still, sides, lambda: _webp(encoded)))
    return formats


def _gif(encoded: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), (None, None, 3))


def _bmp(encoded: tf.Tensor, bits: tf.Tensor, height: tf.Tensor, little: Callable) -> tf.Tensor:
    end = little(10, 14) + (little(18, 22) * bits + 31) // 32 * 4 * height
    # The decoder refuses bytes behind the image.
    image = tf.io.decode_bmp(tf.strings.substr(encoded, tf.zeros_like(end), end), channels=0)

    def of_palette():
        colours = choose((little(46, 50) > 0) & (little(46, 50) < 256), little(46, 50), 256)
        palette = tf.strings.substr(encoded, 14 + little(14, 18), 4 * colours)
        palette = tf.reshape(tf.io.decode_raw(palette, tf.uint8, fixed_length=1024), (256, 4))
        return tf.gather(palette[:, 2::-1], tf.cast(image[..., 0], tf.int32))

    return tf.ensure_shape(tf.cond(bits == 8, of_palette, lambda: image[..., :3]), (None, None, 3))


def _webp(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_webp(encoded, channels=0)  # as many as the file has; one frame
    image = tf.ensure_shape(tf.reshape(image, tf.shape(image)[-3:])[..., :3], (None, None, 3))
    return _turned_by(encoded, image, orientation.WEBP_MARK, orientation.of_webp)
