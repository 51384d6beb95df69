"""The settings of training augmentation, and one image's way through it."""

import dataclasses

import tensorflow as tf

from keras_mixer.data.crop import inception_crop, padded_crop
from keras_mixer.data.pixels import decode, fit
from keras_mixer.data.randaugment import DRAWS_PER_LAYER, randaugment
from keras_mixer.preprocessing import Preprocessing

CROPS = ("inception", "pad", "none")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images vary; the defaults are the paper's crop and flip alone, as its JFT recipes take.

    Attributes:
        crop: "inception" resizes a random box of the image; "pad" shifts the whole image by up to `crop_padding`
            pixels, black beyond its border; "none" takes the image as evaluation does.
        crop_area: Least and greatest share of the image that an inception crop covers.
        crop_ratio: Least and greatest width over height of an inception crop.
        crop_padding: Pixels of the model's input by which "pad" shifts.
        flip: Whether to mirror every other image left to right, at random.
        randaugment_layers: Operations of RandAugment per image; 0 for none. The paper's recipes take 2.
        randaugment_magnitude: Strength on the scale of the AutoAugment code, where 10 is the nominal greatest; the
            paper's recipes go to 15 and 20.
        mixup: Parameter p of mixup's Beta(p, p); 0 for none.
        cutmix: Parameter of CutMix's Beta distribution; 0 for none. With both, a coin decides for each batch.

    Raises:
        ValueError: If a value is out of range, naming it.

    Example:
        >>> keras_mixer.data.Augmentation(randaugment_layers=2, randaugment_magnitude=15, mixup=0.5)
    """

    crop: str = "inception"
    crop_area: tuple[float, float] = (0.05, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: int = 4
    flip: bool = True
    randaugment_layers: int = 0
    randaugment_magnitude: float = 10.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        if self.crop not in CROPS:
            raise ValueError(f"`crop` is one of {', '.join(CROPS)}, but got {self.crop!r}.")
        for name, greatest in (("crop_area", 1.0), ("crop_ratio", float("inf"))):
            bounds = tuple(getattr(self, name))
            if len(bounds) != 2 or not 0.0 < bounds[0] <= bounds[1] <= greatest:
                raise ValueError(f"`{name}` is a pair 0 < least <= greatest <= {greatest:g}, but got {bounds!r}.")
            object.__setattr__(self, name, bounds)
        for name in ("crop_padding", "randaugment_layers", "randaugment_magnitude", "mixup", "cutmix"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` is at least 0, which turns it off, but got {getattr(self, name)!r}.")

    def augment(self, image: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
        """One image through crop, flip and RandAugment.

        Args:
            image: Encoded bytes (a string scalar) or a decoded uint8 image `(height, width, channels)`.
            preprocessing: Gives size, channels and interpolation.
            seed: Two integers that alone decide about all chance.

        Returns:
            uint8 `(*image_size, channels)`.
        """
        crop_seed, vary_seed = tf.unstack(tf.random.split(seed, 2))
        return self._vary(self._crop(image, preprocessing, crop_seed), vary_seed)

    def _crop(self, image: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
        """Decodes and crops."""
        if self.crop == "inception":
            return inception_crop(image, preprocessing, self.crop_area, self.crop_ratio, seed)
        decoded = decode(image, preprocessing.channels) if image.dtype == tf.string else image
        # What is to be shifted is the whole image; what is not cropped is what evaluation sees.
        whole = dataclasses.replace(preprocessing, resize="direct") if self.crop == "pad" else preprocessing
        if whole.resize == "direct" and decoded.shape == whole.input_shape:
            pixels = decoded
        else:
            pixels = tf.cast(tf.round(fit(decoded, whole)), tf.uint8)
        return padded_crop(pixels, self.crop_padding, seed) if self.crop == "pad" else pixels

    def _vary(self, pixels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Flips and applies RandAugment."""
        layers = self.randaugment_layers
        if not (self.flip or layers):
            return pixels
        draws = tf.random.stateless_uniform((1 + layers * DRAWS_PER_LAYER,), seed, alg="philox")
        if self.flip:
            pixels = tf.cond(draws[0] < 0.5, lambda: tf.reverse(pixels, axis=[1]), lambda: pixels)
        return randaugment(pixels, tf.reshape(draws[1:], (layers, DRAWS_PER_LAYER)), self.randaugment_magnitude)
