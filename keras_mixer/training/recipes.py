"""The recipes by name: the paper's pre-training and fine-tuning settings, CIFAR-10 from scratch, and digits.

Sources: sections 3 and 3.1 and the appendix of the paper (arXiv 2105.01601) for pre-training; for fine-tuning, where
the paper names the method and not every number, table 4 of the ViT paper (arXiv 2010.11929), whose protocol it follows.
"""

from collections.abc import Callable
from dataclasses import replace

from keras_mixer.training.recipe import (
    AugmentationSpec,
    DataSpec,
    ExecutionSpec,
    ModelSpec,
    OptimizerSpec,
    Recipe,
    ScheduleSpec,
)

RECIPES: dict[str, Callable[[], Recipe]] = {}


def get(name: str) -> Recipe:
    """Returns the recipe called `name`.

    Raises:
        ValueError: If there is none; the known names are listed.

    Example:
        >>> keras_mixer.training.recipes.get("imagenet_b16").optimizer.weight_decay
        0.1
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}. Known recipes: {', '.join(RECIPES)}; or a path to a recipe.json.")
    return RECIPES[name]()


def _recipe(make: Callable[[], Recipe]) -> Callable[[], Recipe]:
    RECIPES[make.__name__] = make
    return make


def _pretraining(name: str, variant: str, data: DataSpec, augmentation: AugmentationSpec) -> Recipe:
    """What the paper's pre-training runs share; each recipe below says only what is its own."""
    return Recipe(
        name=name,
        model=ModelSpec(variant=variant, stochastic_depth=0.1),
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


IMAGENET = DataSpec(dataset="imagenet2012", eval_split="validation")
# Not among the datasets that TFDS can fetch: a folder of images, given by `--dataset FOLDER`.
IMAGENET21K = DataSpec(dataset="./imagenet21k", eval_split="validation")
# JFT-300M is not public: the recipe holds for any folder of images that stands in for it.
JFT = DataSpec(dataset="./jft", eval_split="validation")


@_recipe
def imagenet_b16() -> Recipe:
    """Expected: ImageNet top-1 76.44 % from scratch (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet_b16 --output runs/imagenet_b16`.
    """
    return _pretraining("imagenet_b16", "mixer_b16", IMAGENET, _randaugment(15, mixup=0.5))


@_recipe
def imagenet_l16() -> Recipe:
    """Expected: ImageNet top-1 71.76 % from scratch (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet_l16 --output runs/imagenet_l16`.
    """
    return _pretraining("imagenet_l16", "mixer_l16", IMAGENET, _randaugment(15, mixup=0.5))


@_recipe
def imagenet21k_b16() -> Recipe:
    """Expected: ImageNet top-1 80.64 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet21k_b16 --dataset FOLDER --output ...`.
    """
    return _pretraining("imagenet21k_b16", "mixer_b16", IMAGENET21K, _randaugment(10, mixup=0.2))


@_recipe
def imagenet21k_l16() -> Recipe:
    """Expected: ImageNet top-1 82.89 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe imagenet21k_l16 --dataset FOLDER --output ...`.
    """
    return _pretraining("imagenet21k_l16", "mixer_l16", IMAGENET21K, _randaugment(20, mixup=0.5))


@_recipe
def jft_s16() -> Recipe:
    """Expected: ImageNet top-1 73.83 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_s16 --dataset FOLDER --output runs/jft_s16`.
    """
    return _jft("jft_s16", "mixer_s16", learning_rate=0.003, epochs=5.0)


@_recipe
def jft_b16() -> Recipe:
    """Expected: ImageNet top-1 80.00 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_b16 --dataset FOLDER --output runs/jft_b16`.
    """
    return _jft("jft_b16", "mixer_b16", learning_rate=0.003, epochs=7.0)


@_recipe
def jft_l16() -> Recipe:
    """Expected: ImageNet top-1 84.82 % after fine-tuning at 224 px (table 3 of the paper). Not measured here.

    The paper also trains it for 14 epochs: `--set schedule.epochs=14`.
    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_l16 --dataset FOLDER --output runs/jft_l16`.
    """
    return _jft("jft_l16", "mixer_l16", learning_rate=0.001, epochs=7.0)


@_recipe
def jft_h14() -> Recipe:
    """Expected: ImageNet top-1 87.94 % after fine-tuning at 448 px (table 2 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe jft_h14 --dataset FOLDER --output runs/jft_h14`.
    """
    return _jft("jft_h14", "mixer_h14", learning_rate=0.001, epochs=14.0)


def _randaugment(magnitude: float, mixup: float) -> AugmentationSpec:
    return AugmentationSpec(
        crop="inception", flip=True, randaugment_layers=2, randaugment_magnitude=magnitude, mixup=mixup
    )


def _jft(name: str, variant: str, learning_rate: float, epochs: float) -> Recipe:
    """On JFT-300M images are only cropped and flipped, and no block is dropped."""
    recipe = _pretraining(name, variant, JFT, AugmentationSpec(crop="inception", flip=True))
    return replace(
        recipe,
        model=replace(recipe.model, stochastic_depth=0.0),
        optimizer=replace(recipe.optimizer, learning_rate=learning_rate, weight_decay=0.03),
        schedule=replace(recipe.schedule, epochs=epochs),
    )


# Table 4 of the ViT paper; the first entry of each is what a single run uses.
SMALL_GRID = (0.003, 0.001, 0.01, 0.03)
LARGE_GRID = (0.01, 0.003, 0.03, 0.06)


def _finetuning(name: str, data: DataSpec, steps: int, learning_rates: tuple[float, ...]) -> Recipe:
    """Section 3 of the paper: momentum SGD, batch 512, clip 1, cosine with a linear warmup, no weight decay.

    The paper gives no length of the warmup: 500 steps are ours, a fifth of the run where that is shorter.
    """
    return Recipe(
        name=name,
        model=ModelSpec(variant="mixer_b16", weights="imagenet21k"),
        data=data,
        augmentation=AugmentationSpec(crop="inception", flip=True),
        optimizer=OptimizerSpec(
            name="sgd", momentum=0.9, learning_rate=learning_rates[0], weight_decay=0.0, global_clipnorm=1.0
        ),
        schedule=ScheduleSpec(steps=steps, warmup_steps=min(500, steps // 5), decay="cosine"),
        execution=ExecutionSpec(precision="mixed_bfloat16", checkpoint_steps=250),
        batch_size=512,
        learning_rate_grid=learning_rates,
    )


@_recipe
def finetune_imagenet() -> Recipe:
    """Expected: ImageNet top-1 80.64 % from the ImageNet-21k B/16 (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_imagenet --output runs/finetune`.
    """
    return _finetuning("finetune_imagenet", IMAGENET, 20_000, LARGE_GRID)


@_recipe
def finetune_cifar10() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_cifar10 --output runs/finetune`.
    """
    return _finetuning("finetune_cifar10", DataSpec(dataset="cifar10"), 10_000, SMALL_GRID)


@_recipe
def finetune_cifar100() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_cifar100 --output runs/finetune`.
    """
    return _finetuning("finetune_cifar100", DataSpec(dataset="cifar100"), 10_000, SMALL_GRID)


@_recipe
def finetune_pets() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_pets --output runs/finetune`.
    """
    return _finetuning("finetune_pets", DataSpec(dataset="oxford_iiit_pet"), 500, SMALL_GRID)


@_recipe
def finetune_flowers() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_flowers --output runs/finetune`.
    """
    data = DataSpec(dataset="oxford_flowers102", train_split="train+validation")
    return _finetuning("finetune_flowers", data, 500, SMALL_GRID)


@_recipe
def finetune_vtab() -> Recipe:
    """Expected: not measured. One of the 19 tasks: 1,000 training images, here of Caltech-101.

    The others: `--dataset NAME`. The protocol resizes without keeping the aspect and neither crops nor flips.
    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_vtab --output runs/finetune`.
    """
    data = DataSpec(dataset="caltech101", train_split="train[:1000]", resize="direct")
    recipe = _finetuning("finetune_vtab", data, 2_500, (0.01,))
    return replace(recipe, augmentation=AugmentationSpec(crop="none", flip=False))


@_recipe
def cifar10() -> Recipe:
    """Expected: not measured at full length. A Mixer of under a million parameters from random weights.

    Hardware: one GPU, or a shorter run on a CPU with `--set schedule.epochs=15`.
    Command: `keras-mixer train --recipe cifar10 --output runs/cifar10`.
    """
    return Recipe(
        name="cifar10",
        model=ModelSpec(
            num_blocks=8,
            patch_size=4,
            hidden_dim=128,
            tokens_mlp_dim=64,
            channels_mlp_dim=384,
            image_size=(32, 32),
            stochastic_depth=0.1,
        ),
        data=DataSpec(dataset="cifar10", resize="direct"),
        augmentation=AugmentationSpec(
            crop="pad", flip=True, randaugment_layers=2, randaugment_magnitude=9.0, mixup=0.2
        ),
        optimizer=OptimizerSpec(name="adamw", learning_rate=0.001, weight_decay=0.1, global_clipnorm=1.0),
        schedule=ScheduleSpec(epochs=300.0, warmup_steps=1_000, decay="cosine"),
        batch_size=128,
        eval_batch_size=500,
        label_smoothing=0.1,
    )


@_recipe
def digits() -> Recipe:
    """Expected: 99.44 % of the 360 test images of scikit-learn's handwritten digits (measured).

    Hardware: 2 CPU cores, about a minute. Command: `keras-mixer train --recipe digits --output runs/digits`.
    """
    return Recipe(
        name="digits",
        model=ModelSpec(
            num_blocks=4,
            patch_size=4,
            hidden_dim=64,
            tokens_mlp_dim=32,
            channels_mlp_dim=128,
            image_size=(32, 32),
            channels=1,
        ),
        data=DataSpec(dataset="digits", resize="direct"),
        augmentation=AugmentationSpec(crop="pad", crop_padding=2, flip=False),
        optimizer=OptimizerSpec(name="adamw", learning_rate=0.002, weight_decay=0.1, global_clipnorm=1.0),
        schedule=ScheduleSpec(epochs=20.0, warmup_steps=50, decay="cosine"),
        execution=ExecutionSpec(checkpoint_steps=200),
        batch_size=64,
        eval_batch_size=180,
        label_smoothing=0.1,
    )
