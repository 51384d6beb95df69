"""Recognises the layouts of the PyTorch checkpoints of Mixer's siblings, by a key that only one of them has."""

import re
from collections.abc import Callable

from keras_mixer.weights import names_conv_mixer, names_g_mlp, names_pyramids, names_res_mlp
from keras_mixer.weights.stored import StoredArray
from keras_mixer.weights.torch_names import Rule

_Arrays = dict[str, StoredArray]


def _without_counters(arrays: _Arrays) -> _Arrays:
    """PyTorch's BatchNorm counts the batches that it has seen, which is no weight."""
    return {key: array for key, array in arrays.items() if not key.endswith(".num_batches_tracked")}


_LAYOUTS: tuple[tuple[str, tuple[Rule, ...], Callable[[_Arrays], _Arrays]], ...] = (
    (names_res_mlp.SIGNATURE, names_res_mlp.RULES, dict),
    (names_g_mlp.SIGNATURE, names_g_mlp.RULES, dict),
    (names_conv_mixer.SIGNATURE, names_conv_mixer.RULES, _without_counters),
    (names_pyramids.SIGNATURE, names_pyramids.RULES, names_pyramids.by_stage),
)


def sibling_layout(arrays: _Arrays) -> tuple[_Arrays, tuple[Rule, ...]] | None:
    """Returns the arrays as the rules of their layout expect them, and the rules; None if no sibling's.

    Raises:
        ValueError: If the layout is known but its fixed buffers hold what the architecture does not compute.
    """
    for signature, rules, prepare in _LAYOUTS:
        if any(re.fullmatch(signature, key) for key in arrays):
            return prepare(arrays), rules
    return None
