"""The paper's fine-tuning: section 3 and appendix C (arXiv 2105.01601).

The paper states only the differences from the ViT paper (arXiv 2010.11929); the other numbers are from its table 4.
"""

from dataclasses import replace

from keras_mixer.augmentation import Augmentation
from keras_mixer.training.recipe import (
    DataSpec,
    ExecutionSpec,
    ModelSpec,
    OptimizerSpec,
    PreprocessingSpec,
    Recipe,
    ScheduleSpec,
)

# ViT's grid for ImageNet. For smaller datasets the Mixer paper replaces ViT's 0.001 by 0.06, so their grid is the same.
# A single run uses the first entry, because neither paper says which rate was best.
GRID = (0.01, 0.003, 0.03, 0.06)
VTAB_GRID = (0.01, 0.003, 0.03)


def _finetuning(name: str, data: DataSpec, steps: int, learning_rates: tuple[float, ...]) -> Recipe:
    """Returns the settings of the paper's section 3, with momentum SGD and without weight decay.

    The paper does not state the length of the warmup. Here it is 500 steps, or a fifth of the run if that is shorter.
    """
    return Recipe(
        name=name,
        model=ModelSpec(variant="mixer_b16", weights="imagenet21k"),
        data=data,
        augmentation=Augmentation(crop="inception", flip=True),
        optimizer=OptimizerSpec(
            name="sgd", momentum=0.9, learning_rate=learning_rates[0], weight_decay=0.0, global_clipnorm=1.0
        ),
        schedule=ScheduleSpec(steps=steps, warmup_steps=min(500, steps // 5), decay="cosine"),
        execution=ExecutionSpec(precision="mixed_bfloat16", checkpoint_steps=250),
        batch_size=512,
        learning_rate_grid=learning_rates,
    )


def finetune_imagenet() -> Recipe:
    """Expected: ImageNet top-1 80.64 % from the ImageNet-21k B/16 (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_imagenet --output runs/finetune`.
    """
    return _finetuning("finetune_imagenet", DataSpec(name="imagenet2012", eval_split="validation"), 20_000, GRID)


def finetune_cifar10() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_cifar10 --output runs/finetune`.
    """
    return _finetuning("finetune_cifar10", DataSpec(name="cifar10"), 10_000, GRID)


def finetune_cifar100() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_cifar100 --output runs/finetune`.
    """
    return _finetuning("finetune_cifar100", DataSpec(name="cifar100"), 10_000, GRID)


def finetune_pets() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_pets --output runs/finetune`.
    """
    return _finetuning("finetune_pets", DataSpec(name="oxford_iiit_pet"), 500, GRID)


def finetune_flowers() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_flowers --output runs/finetune`.
    """
    data = DataSpec(name="oxford_flowers102", train_split="train+validation")
    return _finetuning("finetune_flowers", data, 500, GRID)


def finetune_vtab() -> Recipe:
    """Expected: not measured. One of the 19 tasks, with 1,000 training images: Caltech-101.

    Choose another task with `--dataset NAME`. The protocol resizes to a square, and neither crops nor flips.
    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_vtab --output runs/finetune`.
    """
    data = DataSpec(name="caltech101", train_split="train[:1000]")
    recipe = _finetuning("finetune_vtab", data, 2_500, VTAB_GRID)
    return replace(
        recipe, preprocessing=PreprocessingSpec(resize="direct"), augmentation=Augmentation(crop="none", flip=False)
    )
