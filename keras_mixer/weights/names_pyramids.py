"""The weights of Vision Permutator and CycleMLP as their authors name them.

Both number stages and downsamplings together, `network.0` and on, and leave out a downsampling that does nothing: the
keys are first brought to a stage's own number.
"""

import re
from collections.abc import Iterable

import numpy as np

from keras_mixer.weights.stored import StoredArray
from keras_mixer.weights.torch_names import LEAF, NORM_LEAF, Rule, convolution, dense, pointwise, same

SIGNATURE = r"network\.\d{1,4}\.\d{1,4}\.attn\.(mlp_h|sfc_h)\.weight"

_OFFSETS = re.compile(r".*\.attn\.sfc_([hw])\.offset")
_BLOCK = r"stage_(\d{1,4})\.(\d{1,4})"


def _block(match: re.Match, part: str) -> str:
    return f"stage_{match[1]}_block_{match[2]}_{part}"


# The authors' "h" of CycleFC shifts along the width.
_CYCLE = {"h": "cycle_width", "w": "cycle_height"}
_PERMUTE = {"h": "height", "w": "width", "c": "channels"}

RULES: tuple[Rule, ...] = (
    (r"patch_embed\.proj\.(weight|bias)", lambda m: f"stem/{LEAF[m[1]]}", convolution),
    (r"downsampling_(\d{1,4})\.proj\.(weight|bias)", lambda m: f"downsampling_{m[1]}/{LEAF[m[2]]}", convolution),
    (
        rf"{_BLOCK}\.norm([12])\.(weight|bias)",
        lambda m: f"{_block(m, f'norm_{int(m[3]) - 1}')}/{NORM_LEAF[m[4]]}",
        same,
    ),
    (rf"{_BLOCK}\.attn\.mlp_([hwc])\.weight", lambda m: f"{_block(m, 'mixing')}/{_PERMUTE[m[3]]}/kernel", dense),
    (
        rf"{_BLOCK}\.attn\.sfc_([hw])\.(weight|bias)",
        lambda m: f"{_block(m, 'mixing')}/{_CYCLE[m[3]]}/{LEAF[m[4]]}",
        pointwise,
    ),
    (
        rf"{_BLOCK}\.attn\.reweight\.fc([12])\.(weight|bias)",
        lambda m: f"{_block(m, 'mixing')}/reweight/Dense_{int(m[3]) - 1}/{LEAF[m[4]]}",
        dense,
    ),
    (
        rf"{_BLOCK}\.attn\.proj\.(weight|bias)",
        lambda m: f"{_block(m, 'mixing')}/projection/{LEAF[m[3]]}",
        dense,
    ),
    (
        rf"{_BLOCK}\.mlp\.fc([12])\.(weight|bias)",
        lambda m: f"{_block(m, 'channel_mlp')}/Dense_{int(m[3]) - 1}/{LEAF[m[4]]}",
        dense,
    ),
    (r"norm\.(weight|bias)", lambda m: f"pre_head_layer_norm/{NORM_LEAF[m[1]]}", same),
    (r"head\.(weight|bias)", lambda m: f"head/{LEAF[m[1]]}", dense),
)


def by_stage(arrays: dict[str, StoredArray]) -> dict[str, StoredArray]:
    """Renames `network.N` to the stage or downsampling that it is, and drops the fixed offsets once checked.

    Raises:
        ValueError: If offsets are others than those of a pseudo-kernel of 3.
    """
    kept = {key: array for key, array in arrays.items() if not _is_checked_offset(key, array)}
    names = _stage_names(kept)
    return {_renamed(key, names): array for key, array in kept.items()}


def _stage_names(keys: Iterable[str]) -> dict[str, str]:
    members = {
        match[1]: match[2]
        for match in (re.match(r"network\.(\d{1,4})\.(proj|\d{1,4})\.", key) for key in keys)
        if match
    }
    names, stage = {}, -1
    for number in sorted(members, key=int):
        if members[number] == "proj":
            names[number] = f"downsampling_{stage}"
        else:
            stage += 1
            names[number] = f"stage_{stage}"
    return names


def _renamed(key: str, names: dict[str, str]) -> str:
    match = re.match(r"network\.(\d{1,4})\.", key)
    if match is None or match[1] not in names:
        return key
    return f"{names[match[1]]}.{key[match.end() :]}"


def _is_checked_offset(key: str, array: StoredArray) -> bool:
    match = _OFFSETS.fullmatch(key)
    if match is None:
        return False
    channels = array.shape[1] // 2 if len(array.shape) == 4 else 0
    expected = np.zeros((1, 2 * channels, 1, 1))
    # Pairs (down, right) for each channel, which CycleFC takes 1, -1 and 0 pixels away in turn.
    expected[0, int(match[1] == "h") :: 2, 0, 0] = (np.arange(channels) + 1) % 3 - 1
    if array.shape != expected.shape or not np.array_equal(array.believed(key).read(), expected):
        raise ValueError(
            f"The checkpoint's {key} are not the offsets of a pseudo-kernel of 3 pixels, which CycleFC has."
        )
    return True
