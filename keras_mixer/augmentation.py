"""How training images vary: one record for data pipelines and recipes."""

import dataclasses

from keras_mixer.images import MAX_PIXELS

CROPS = ("inception", "pad", "none")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images vary; by default they are only cropped and flipped, as in the paper's JFT recipes.

    `keras_mixer.data.augmentation` carries it out with TensorFlow. A number of 0 turns its step off.

    Args:
        crop: "inception" resizes a random box of the image. "pad" shifts the whole image by up to `crop_padding`
            pixels and fills with black. "none" takes the image as evaluation does.
        crop_area: Least and greatest share of the image that an inception crop covers.
        crop_ratio: Least and greatest width over height of an inception crop.
        crop_padding: Greatest shift of "pad", in pixels of the model's input.
        flip: Whether to mirror a random half of the images left to right.
        randaugment_layers: Operations of RandAugment per image; the paper's recipes take 2.
        randaugment_magnitude: Their strength on the scale of the AutoAugment code, whose nominal maximum is 10. The
            paper's recipes go to 15 and 20.
        mixup: Parameter p of mixup's Beta(p, p).
        cutmix: Parameter of CutMix's Beta distribution. With both, a coin decides for each batch.

    Raises:
        ValueError: If a value is out of range; the message names it.

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
        for field in dataclasses.fields(self):
            if field.type in (int, float) and not getattr(self, field.name) >= 0:
                raise ValueError(
                    f"`{field.name}` is at least 0, which turns it off, but got {getattr(self, field.name)!r}."
                )

    def augment(self, image, preprocessing, seed, max_pixels: int = MAX_PIXELS):
        """Takes one image through all steps; needs TensorFlow.

        Args:
            image: Encoded bytes (a scalar string tensor) or decoded uint8 pixels `(height, width, channels)`.
            preprocessing: The `Preprocessing` that gives size, channels and interpolation.
            seed: Tensor of two integers; everything random follows from it.
            max_pixels: The most pixels of an encoded image; larger ones are errors.

        Returns:
            A uint8 tensor `(*image_size, channels)`.
        """
        from keras_mixer.data.augmentation import steps  # TensorFlow is imported here

        return steps.augment(image, self, preprocessing, seed, max_pixels)
