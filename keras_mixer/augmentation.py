"""The settings of image augmentation, one record for data pipelines and recipes."""

import dataclasses

from keras_mixer.extras import require
from keras_mixer.fields import check_types
from keras_mixer.images import MAX_PIXELS

CROPS = ("inception", "pad", "none")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are augmented. By default they are only cropped and flipped, as in the paper's JFT recipes.

    `keras_mixer.data.augmentation` implements the steps with TensorFlow. A value of 0 turns a step off.

    Args:
        crop: "inception" resizes a random box of the image. "pad" shifts the whole image by up to `crop_padding`
            pixels and fills the gap with black. "none" prepares the image as evaluation does.
        crop_area: Smallest and largest share of the image's area that an inception crop covers.
        crop_ratio: Smallest and largest ratio of width to height of an inception crop.
        crop_padding: Largest shift of "pad", in pixels of the model's input.
        flip: Whether to mirror a random half of the images left to right.
        randaugment_layers: RandAugment operations per image. The paper's recipes use 2.
        randaugment_magnitude: Strength of these operations on the scale of the AutoAugment code, whose nominal maximum
            is 10. The paper's recipes use up to 15 or 20.
        mixup: Parameter p of mixup's Beta(p, p).
        cutmix: Parameter of CutMix's Beta distribution. If both are on, each batch uses one of them at random.

    Raises:
        ValueError: If a value has a wrong type or is out of range; the message names it.

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
        check_types(self)
        if self.crop not in CROPS:
            raise ValueError(f"`crop` is one of {', '.join(CROPS)}, but got {self.crop!r}.")
        for name, greatest in (("crop_area", 1.0), ("crop_ratio", float("inf"))):
            least, most = getattr(self, name)
            if not 0 < least <= most <= greatest:
                raise ValueError(f"`{name}` is a pair 0 < least <= greatest <= {greatest:g}, but got {(least, most)}.")
        for name in ("crop_padding", "randaugment_layers", "randaugment_magnitude", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is at least 0, which turns it off, but got {getattr(self, name)}.")

    def augment(self, image, preprocessing, seed, max_pixels: int = MAX_PIXELS):
        """Applies all steps to one image. Needs TensorFlow.

        Args:
            image: Encoded bytes (a scalar string tensor) or decoded uint8 pixels `(height, width, channels)`.
            preprocessing: The `Preprocessing` that sets size, channels and interpolation.
            seed: Tensor of two integers that determines all random choices.
            max_pixels: Largest number of pixels of an encoded image. A larger image is an error.

        Returns:
            A uint8 tensor `(*image_size, channels)`.
        """
        require("tensorflow", extra="tensorflow", purpose="Augmentation.augment")
        from keras_mixer.data.augmentation import steps

        return steps.augment(image, self, preprocessing, seed, max_pixels)
