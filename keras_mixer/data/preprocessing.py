"""From the bytes of an image file to the input of a model, without randomness: the evaluation side of section 3."""

import dataclasses
import json

import tensorflow as tf

from keras_mixer.data.gif import first_frame_as_png, is_gif
from keras_mixer.fields import read

RESIZE_MODES = ("crop", "squash", "direct")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")

# Of an image that is longer than this many times what the margin leaves, the middle is read alone.
LONGEST = 4
# Pixels that the widest kernel, lanczos5, reads on each side: of the image given or the one made, whichever are larger.
REACH = 5
# Values of the unfinished picture beyond which resampling takes the axes in the other order.
UNFINISHED_LIMIT = 2**24


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a model expects of its input images, and the TensorFlow operations that make it so.

    Every method works on tensors, eagerly, inside `tf.data` and inside a `tf.function` that is exported.

    Attributes:
        image_size: Height and width of the model's input, in pixels.
        channels: 3 for RGB, 1 for grey. Files of the other kind are converted on decoding.
        resize: "crop" scales the image until its centre crop of `image_size` leaves a margin (for a square size: the
            shorter side becomes `image_size / crop_share`), as the paper evaluates for its table 3; "squash" gives the
            whole image that margin, stretching it, before the centre crop, as for its table 2; "direct" stretches the
            whole image to `image_size`, as VTAB does.
        interpolation: A method of `tf.image.resize`; always antialiased.
        mean: Subtracted from pixels on the [0, 1] scale; one number, or one per channel.
        std: Divides what is left. The default mean and std of 0.5 give [-1, 1]; 0 and 1 give [0, 1].
        crop_share: Share of the resized side that the centre crop keeps: by default 224 of 256 pixels, as the paper.

    Raises:
        ValueError: If a value is out of range, naming it.

    Example:
        >>> preprocessing = keras_mixer.data.Preprocessing(image_size=(32, 32))
        >>> encoded = tf.io.encode_png(tf.fill((48, 64, 3), tf.constant(255, tf.uint8)))
        >>> float(tf.reduce_min(preprocessing(encoded)))
        1.0
    """

    image_size: tuple[int, int] = (224, 224)
    channels: int = 3
    resize: str = "crop"
    interpolation: str = "bilinear"
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    crop_share: float = 224 / 256

    def __post_init__(self):
        size = (self.image_size,) * 2 if isinstance(self.image_size, int) else tuple(self.image_size)
        if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
            raise ValueError(f"`image_size` is a pair of pixels (height, width), but got {self.image_size!r}.")
        object.__setattr__(self, "image_size", size)
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` is 3 (RGB) or 1 (grey), but got {self.channels!r}.")
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"`resize` is one of {', '.join(RESIZE_MODES)}, but got {self.resize!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"`interpolation` is one of {', '.join(INTERPOLATIONS)}, but got {self.interpolation!r}.")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, name, value)
            if isinstance(value, tuple) and len(value) != self.channels:
                raise ValueError(f"`{name}` is one number or one per channel ({self.channels}), but got {value!r}.")
        if any(value <= 0 for value in (self.std if isinstance(self.std, tuple) else (self.std,))):
            raise ValueError(f"`std` divides the pixels and must be positive, but got {self.std!r}.")
        if not 0.0 < self.crop_share <= 1.0:
            raise ValueError(f"`crop_share` is a share, 0 < crop_share <= 1, but got {self.crop_share!r}.")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The model's input shape (height, width, channels)."""
        return (*self.image_size, self.channels)

    def __call__(self, encoded: tf.Tensor) -> tf.Tensor:
        """Encoded bytes, a scalar string, to the model's input: float32 `(height, width, channels)`."""
        return self.apply(self.decode(encoded))

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes a JPEG, PNG or GIF (its first frame) to uint8 `(any height, any width, channels)`.

        An orientation in EXIF data is not applied, and transparency is dropped.

        Raises:
            tf.errors.InvalidArgumentError: When the operation runs, if the bytes are no such image.
        """
        encoded = tf.convert_to_tensor(encoded)
        encoded = tf.cond(is_gif(encoded), lambda: first_frame_as_png(encoded), lambda: encoded)
        # One operation reads both other formats. The accurate inverse DCT is what PIL and other servers use.
        image = tf.io.decode_jpeg(encoded, channels=self.channels, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(image, (None, None, self.channels))

    def apply(self, image: tf.Tensor) -> tf.Tensor:
        """A decoded image with values in [0, 255], any size and real dtype, to the model's input."""
        return self.normalize(self.fit(image))

    def fit(self, image: tf.Tensor) -> tf.Tensor:
        """Resizes (and crops) an image to float32 `(*image_size, channels)`, values still in [0, 255]."""
        height, width = self.image_size
        if self.resize == "direct":
            fitted = self.resample(image, self.image_size)
        else:
            size = tf.cast(tf.shape(image)[:2], tf.float32)
            scale = tf.constant(self.image_size, tf.float32) * (1 / self.crop_share) / size  # of each axis
            if self.resize == "crop":
                scale = tf.reduce_max(scale)
                image = self._middle(image, scale)
                size = tf.cast(tf.shape(image)[:2], tf.float32)
            # Rounding may not undercut the crop.
            resized = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), self.image_size)
            top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
            fitted = self.resample(image, resized)[top : top + height, left : left + width]
        return tf.ensure_shape(fitted, self.input_shape)

    def resample(self, image: tf.Tensor, size) -> tf.Tensor:
        """Resizes to `size` with this interpolation, float32 in [0, 255]."""

        def resize(source, to):
            return tf.cast(tf.image.resize(source, to, method=self.interpolation, antialias=True), tf.float32)

        # TensorFlow brings the height to its size first. Where the height grows and the width shrinks by far, what is
        # then unfinished would take gigabytes, so the width goes first.
        given = tf.shape(image)
        unfinished = tf.cast(size[0], tf.int64) * tf.cast(given[1], tf.int64) * self.channels
        resized = tf.cond(
            (given[0] < size[0]) & (unfinished > UNFINISHED_LIMIT),
            lambda: resize(resize(image, (given[0], size[1])), size),
            lambda: resize(image, size),
        )
        # Cubic and Lanczos kernels overshoot at edges.
        return tf.clip_by_value(resized, 0.0, 255.0)

    def _middle(self, image: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Cuts both ends off an image that is too long for its crop to see them; leaves photographs whole.

        To scale the whole of a line of pixels until its shorter side fills the crop would take gigabytes.
        """
        size = tf.shape(image)[:2]
        longest = LONGEST / self.crop_share * tf.constant(self.image_size, tf.float32) / scale
        longest += 2 * REACH * tf.maximum(1.0, 1.0 / scale)
        # As much from both ends, so that the centre stays where it is.
        cut = tf.maximum(size - tf.cast(tf.math.ceil(longest), tf.int32), 0) // 2
        return image[cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]

    def normalize(self, pixels: tf.Tensor) -> tf.Tensor:
        """Scales `(..., channels)` from [0, 255] to the model's range, float32."""
        mean, std = tf.constant(self.mean, tf.float32), tf.constant(self.std, tf.float32)
        return (tf.cast(pixels, tf.float32) - 255.0 * mean) / (255.0 * std)

    def to_json(self) -> str:
        """This preprocessing as a JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If the text is not JSON, or a field is unknown, of a wrong type or out of range.
        """
        return read(cls, json.loads(text))
