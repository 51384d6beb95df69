"""How well architectures learn from images with permuted pixels (section 3.5 and figure 4 of the paper)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts.predictor import worth_compiling
from keras_mixer.shapes import pair_of_positive_integers, positive_integer

if TYPE_CHECKING:
    import keras

ORDERS = ("original", "patches and pixels", "all pixels")


@dataclasses.dataclass(frozen=True)
class Curve:
    """Accuracy and loss of one architecture on images with one order of pixels.

    Attributes:
        model: Name of the architecture.
        order: One of `ORDERS`.
        accuracy: Top-1 on the test images after each epoch.
        loss: Mean training loss of each epoch.
    """

    model: str
    order: str
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]


def pixel_order(order: str, size: tuple[int, int], patch: tuple[int, int], seed: int) -> np.ndarray:
    """Returns one permutation of the pixels, shared by all images.

    Args:
        order: "original" leaves the pixels in place. "patches and pixels" permutes the patches, and permutes the pixels
            of all patches in the same way. "all pixels" permutes all pixels of the image freely.
        size: Height and width of the images, in pixels.
        patch: Height and width of the patches, in pixels; they divide the image.
        seed: Seed of the permutation.

    Returns:
        Indices `(height * width,)`: pixel i of a permuted image is pixel `indices[i]` of the original, in raster order.

    Raises:
        ValueError: If the order is unknown, or the patch does not divide the image.
    """
    (height, width), (patch_height, patch_width) = size, pair_of_positive_integers("patch", patch)
    if order not in ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(ORDERS)}, but got {order!r}.")
    if height % patch_height or width % patch_width:
        raise ValueError(f"Patches of {patch_height} x {patch_width} do not divide images of {height} x {width}.")
    rng = np.random.default_rng(seed)
    indices = np.arange(height * width)
    if order == "original":
        return indices
    if order == "all pixels":
        return rng.permutation(indices)
    rows, columns = height // patch_height, width // patch_width
    grid = indices.reshape(rows, patch_height, columns, patch_width).transpose(0, 2, 1, 3)
    patches = grid.reshape(rows * columns, patch_height * patch_width)
    patches = patches[rng.permutation(len(patches))][:, rng.permutation(patches.shape[1])]
    return patches.reshape(rows, columns, patch_height, patch_width).transpose(0, 2, 1, 3).reshape(-1)


def permute_pixels(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Permutes the pixels of images `(n, height, width, channels)`. The channels of a pixel stay together."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    return flat[:, indices].reshape(images.shape)


def invariance_experiment(
    builders: Mapping[str, Callable[[], "keras.Model"]],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    patch: tuple[int, int],
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
    report: Callable[[Curve], None] = lambda curve: None,
) -> list[Curve]:
    """Trains each architecture from scratch on images with each order of pixels, by the same recipe.

    Args:
        builders: Functions by name. Each returns a new classifier that outputs probabilities.
        train: Images `(n, height, width, channels)` and integer labels.
        test: Images and labels to measure on. They are permuted in the same way as the training images.
        patch: Height and width of the patches of the order "patches and pixels", in pixels.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: AdamW's initial learning rate. A cosine schedule lowers it to 0.
        weight_decay: AdamW's weight decay.
        seed: Seed of the permutations, the initial weights and the shuffling, for all architectures and orders.
        report: Called with each curve once it is complete.

    Returns:
        The curves, grouped by architecture.

    Example:
        >>> builders = {"mixer": make_mixer, "resnet50": make_resnet}
        >>> curves = invariance_experiment(builders, train, test, patch=(4, 4), epochs=5)
    """
    import keras

    curves = []
    steps = positive_integer("epochs", epochs) * -(-len(train[0]) // positive_integer("batch_size", batch_size))
    for name, build in builders.items():
        for order in ORDERS:
            keras.utils.set_random_seed(seed)
            model = build()
            indices = pixel_order(order, train[0].shape[1:3], patch, seed)
            schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
            model.compile(
                keras.optimizers.AdamW(schedule, weight_decay=weight_decay),
                keras.losses.SparseCategoricalCrossentropy(),
                metrics=["accuracy"],
                jit_compile=worth_compiling(),
            )
            history = model.fit(
                permute_pixels(train[0], indices),
                train[1],
                validation_data=(permute_pixels(test[0], indices), test[1]),
                epochs=epochs,
                batch_size=batch_size,
                verbose=0,
            ).history
            curves.append(Curve(name, order, tuple(history["val_accuracy"]), tuple(history["loss"])))
            report(curves[-1])
    return curves
