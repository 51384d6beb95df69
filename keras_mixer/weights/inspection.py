"""What a checkpoint says of the Mixer that it belongs to, read before the model is built."""

import dataclasses
import os

from keras_mixer.weights.layouts import to_official_names
from keras_mixer.weights.readers import open_checkpoint
from keras_mixer.weights.stored import StoredArray

# A head of zeros is an honest one that packs to nearly nothing; with so many classes, as the largest published ones
# have, that of the widest variant takes 168 MB.
_HARMLESS_CLASSES = 2**15


@dataclasses.dataclass(frozen=True)
class CheckpointSizes:
    """Sizes that a checkpoint fixes; None where it does not hold the weight that would tell.

    Attributes:
        tokens: Patches of its images.
        tokens_mlp_dim: Hidden units of its token-mixing MLPs.
        classes: Classes of its head.
    """

    tokens: int | None = None
    tokens_mlp_dim: int | None = None
    classes: int | None = None


def sizes_of(path: str | os.PathLike) -> CheckpointSizes:
    """Reads the sizes of a Mixer's checkpoint, in any format and layout.

    Raises:
        ValueError: If it is no checkpoint or is damaged.
        OSError: If it cannot be read.
    """
    with open_checkpoint(path) as stored:
        arrays = to_official_names(stored)
        tokens, tokens_mlp_dim = _shape(arrays, "MixerBlock_0/token_mixing/Dense_0")
        _, classes = _shape(arrays, "head", harmless=_HARMLESS_CLASSES)
    return CheckpointSizes(tokens, tokens_mlp_dim, classes)


def _shape(arrays: dict[str, StoredArray], layer: str, harmless: int = 0) -> tuple[int | None, int | None]:
    """Returns the shape of a layer's kernel; `harmless` columns need no bytes to be believed."""
    for name in (f"{layer}/kernel", f"{layer}/0"):  # Keras's files number the weights of a layer
        if name in arrays and len(arrays[name].shape) == 2 and 0 not in arrays[name].shape:
            rows, columns = arrays[name].shape
            if columns > harmless:
                arrays[name].believed(name)
            return rows, columns
    return None, None
