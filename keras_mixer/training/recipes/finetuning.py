"""Fine-tuning as the paper does it: section 3 and appendix C (arXiv 2105.01601).

Where that names only the differences, table 4 of the ViT paper (arXiv 2010.11929) has the numbers.
"""

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

# ViT's grid for ImageNet; for the smaller datasets the Mixer paper takes 0.06 in place of ViT's 0.001, which makes it
# the same. The first entry is what a single run uses: neither paper says which rate won.
GRID = (0.01, 0.003, 0.03, 0.06)
VTAB_GRID = (0.01, 0.003, 0.03)


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


def finetune_imagenet() -> Recipe:
    """Expected: ImageNet top-1 80.64 % from the ImageNet-21k B/16 (table 3 of the paper). Not measured here.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_imagenet --output runs/finetune`.
    """
    return _finetuning("finetune_imagenet", DataSpec(dataset="imagenet2012", eval_split="validation"), 20_000, GRID)


def finetune_cifar10() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_cifar10 --output runs/finetune`.
    """
    return _finetuning("finetune_cifar10", DataSpec(dataset="cifar10"), 10_000, GRID)


def finetune_cifar100() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_cifar100 --output runs/finetune`.
    """
    return _finetuning("finetune_cifar100", DataSpec(dataset="cifar100"), 10_000, GRID)


def finetune_pets() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_pets --output runs/finetune`.
    """
    return _finetuning("finetune_pets", DataSpec(dataset="oxford_iiit_pet"), 500, GRID)


def finetune_flowers() -> Recipe:
    """Expected: not measured.

    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_flowers --output runs/finetune`.
    """
    data = DataSpec(dataset="oxford_flowers102", train_split="train+validation")
    return _finetuning("finetune_flowers", data, 500, GRID)


def finetune_vtab() -> Recipe:
    """Expected: not measured. One of the 19 tasks: 1,000 training images, here of Caltech-101.

    The others: `--dataset NAME`. The protocol resizes without keeping the aspect and neither crops nor flips.
    Hardware: TPUv3 in the paper. Command: `keras-mixer train --recipe finetune_vtab --output runs/finetune`.
    """
    data = DataSpec(dataset="caltech101", train_split="train[:1000]", resize="direct")
    recipe = _finetuning("finetune_vtab", data, 2_500, VTAB_GRID)
    return replace(recipe, augmentation=AugmentationSpec(crop="none", flip=False))
