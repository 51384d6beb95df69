"""The recipes by name: the paper's pre-training and fine-tuning, CIFAR-10 from scratch, and digits."""

from collections.abc import Callable

from keras_mixer.training.recipe import Recipe
from keras_mixer.training.recipes.finetuning import (
    finetune_cifar10,
    finetune_cifar100,
    finetune_flowers,
    finetune_imagenet,
    finetune_pets,
    finetune_vtab,
)
from keras_mixer.training.recipes.pretraining import (
    imagenet21k_b16,
    imagenet21k_l16,
    imagenet_b16,
    imagenet_l16,
    jft_b16,
    jft_h14,
    jft_l16,
    jft_s16,
)
from keras_mixer.training.recipes.small import (
    cifar10,
    cifar10_nano,
    digits,
)

RECIPES: dict[str, Callable[[], Recipe]] = {
    make.__name__: make
    for make in (
        imagenet_b16,
        imagenet_l16,
        imagenet21k_b16,
        imagenet21k_l16,
        jft_s16,
        jft_b16,
        jft_l16,
        jft_h14,
        finetune_imagenet,
        finetune_cifar10,
        finetune_cifar100,
        finetune_pets,
        finetune_flowers,
        finetune_vtab,
        cifar10,
        cifar10_nano,
        digits,
    )
}


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
