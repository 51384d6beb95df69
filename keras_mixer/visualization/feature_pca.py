"""What the tokens of a block have in common: their main directions, as colours over the image."""

import dataclasses

import keras
import numpy as np

from keras_mixer.visualization.parts import block_of, grid_of


@dataclasses.dataclass(frozen=True)
class FeaturePCA:
    """Principal components of tokens.

    Attributes:
        maps: Coordinates of each token, `(images, rows, columns, components)`.
        explained: Share of the tokens' variance along each component, falling.
    """

    maps: np.ndarray
    explained: np.ndarray


def feature_pca(model: keras.Model, images: np.ndarray, block: int, components: int = 3) -> FeaturePCA:
    """Projects the tokens that a block puts out onto their principal components over all images together.

    Args:
        model: A Mixer.
        images: Preprocessed images, `(n, height, width, channels)`.
        block: Index of the block, counted from 0.
        components: Number of components.

    Returns:
        The coordinates. The sign of a component, which is arbitrary, makes its largest loading positive.

    Raises:
        ValueError: If there is no such block, or fewer tokens or channels than components.

    Example:
        >>> keras_mixer.visualization.feature_pca(model, images, block=-1).maps.shape
        (8, 14, 14, 3)
    """
    layer = block_of(model, block)
    tables = keras.Model(model.inputs, layer.output).predict(np.asarray(images, "float32"), verbose=0)
    rows, columns = grid_of(model, tables.shape[1])
    tokens = tables.reshape(-1, tables.shape[-1]).astype("float64")
    if not 1 <= components <= min(tokens.shape):
        raise ValueError(f"{tokens.shape[0]} tokens of {tokens.shape[1]} channels do not have {components} components.")
    tokens -= tokens.mean(axis=0)
    # The eigenvectors of the covariance: channels are fewer than tokens.
    variances, directions = np.linalg.eigh(tokens.T @ tokens)
    directions = directions[:, ::-1][:, :components]
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, np.arange(components)])
    total = variances.sum()
    explained = np.maximum(variances[::-1][:components], 0.0) / (total if total > 0 else 1.0)
    return FeaturePCA((tokens @ directions).reshape(len(tables), rows, columns, components), explained)
