"""The paper's pre-training: table 4 in its appendix B (arXiv 2105.01601)."""

from dataclasses import replace

from keras_mixer.augmentation import Augmentation
from keras_mixer.training.recipe import DataSpec, ExecutionSpec, ModelSpec, OptimizerSpec, Recipe, ScheduleSpec


def _pretraining(name: str, variant: str, data: DataSpec, augmentation: Augmentation) -> Recipe:
    """Returns the settings that all pre-training runs of the paper share."""
    return Recipe(
        name=name,
        model=ModelSpec(variant=variant, arguments={"stochastic_depth": 0.1}),
        data=data,
        augmentation=augmentation,
        optimizer=OptimizerSpec(
            name="adamw", learning_rate=0.001, weight_decay=0.1, beta_1=0.9, beta_2=0.999, global_clipnorm=1.0
        ),
        schedule=ScheduleSpec(epochs=300.0, warmup_steps=10_000, decay="linear"),
        execution=ExecutionSpec(precision="mixed_bfloat16", steps_per_execution=10),
        batch_size=4096,
        eval_batch_size=1024,
    )


IMAGENET = DataSpec(name="imagenet2012", eval_split="validation")
# TFDS cannot download it: name a folder of images with `--dataset FOLDER`.
IMAGENET21K = DataSpec(name="./imagenet21k", eval_split="validation")
# JFT-300M is not public; any folder of images can take its place.
JFT = DataSpec(name="./jft", eval_split="validation")


def imagenet_b16() -> Recipe:
    """Expected: ImageNet top-1 76.44 % from scratch (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet_b16 --output runs/imagenet_b16`.
    """
    return _pretraining("imagenet_b16", "mixer_b16", IMAGENET, _randaugment(15, mixup=0.5))


def imagenet_l16() -> Recipe:
    """Expected: ImageNet top-1 71.76 % from scratch (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet_l16 --output runs/imagenet_l16`.
    """
    return _pretraining("imagenet_l16", "mixer_l16", IMAGENET, _randaugment(15, mixup=0.5))


def imagenet21k_b16() -> Recipe:
    """Expected: ImageNet top-1 80.64 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet21k_b16 --dataset FOLDER --output ...`.
    """
    return _pretraining("imagenet21k_b16", "mixer_b16", IMAGENET21K, _randaugment(10, mixup=0.2))


def imagenet21k_l16() -> Recipe:
    """Expected: ImageNet top-1 82.89 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet21k_l16 --dataset FOLDER --output ...`.
    """
    return _pretraining("imagenet21k_l16", "mixer_l16", IMAGENET21K, _randaugment(20, mixup=0.5))


def jft_s16() -> Recipe:
    """Expected: ImageNet top-1 73.83 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_s16 --dataset FOLDER --output runs/jft_s16`.
    """
    return _jft("jft_s16", "mixer_s16", learning_rate=0.003, epochs=5.0)


def jft_b16() -> Recipe:
    """Expected: ImageNet top-1 80.00 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_b16 --dataset FOLDER --output runs/jft_b16`.
    """
    return _jft("jft_b16", "mixer_b16", learning_rate=0.003, epochs=7.0)


def jft_l16() -> Recipe:
    """Expected: ImageNet top-1 84.82 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    The paper also trains it for 14 epochs: `--set schedule.epochs=14`.
    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_l16 --dataset FOLDER --output runs/jft_l16`.
    """
    return _jft("jft_l16", "mixer_l16", learning_rate=0.001, epochs=7.0)


def jft_h14() -> Recipe:
    """Expected: ImageNet top-1 87.94 % after fine-tuning at 448 px (table 2 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_h14 --dataset FOLDER --output runs/jft_h14`.
    """
    return _jft("jft_h14", "mixer_h14", learning_rate=0.001, epochs=14.0)


def _randaugment(magnitude: float, mixup: float) -> Augmentation:
    return Augmentation(crop="inception", flip=True, randaugment_layers=2, randaugment_magnitude=magnitude, mixup=mixup)


def _jft(name: str, variant: str, learning_rate: float, epochs: float) -> Recipe:
    """Changes the settings for JFT-300M: no RandAugment, no mixup and no stochastic depth."""
    recipe = _pretraining(name, variant, JFT, Augmentation(crop="inception", flip=True))
    return replace(
        recipe,
        model=ModelSpec(variant=variant),
        optimizer=replace(recipe.optimizer, learning_rate=learning_rate, weight_decay=0.03),
        schedule=replace(recipe.schedule, epochs=epochs),
    )
