"""The names that foreign checkpoints give to a model's weights, and the official ones that they stand for.

Official names are `stem/kernel`, `MixerBlock_3/token_mixing/Dense_0/kernel`, `head/bias` and so on. A table of
patterns renames every key that has another layout's form; any other key passes through, to be judged by the loader.
Mixer's layouts are here; `family` knows its siblings'.
"""

import re
from collections.abc import Callable

from keras_mixer.weights.family import sibling_layout
from keras_mixer.weights.stored import StoredArray
from keras_mixer.weights.torch_names import LEAF, NORM_LEAF, Rule, convolution, dense, same


def _previous(index: str) -> str:
    return str(int(index) - 1)


_RULES: tuple[Rule, ...] = (
    # The official layout of May 2021, whose MLP weights have a leading axis of length 1.
    (r"embedding/(kernel|bias)", lambda m: f"stem/{m[1]}", same),
    (r"Mixer/encoder_norm/(scale|bias)", lambda m: f"pre_head_layer_norm/{m[1]}", same),
    (
        r"Mixer/encoderblock_(\d{1,4})/LayerNorm_([01])/(scale|bias)",
        lambda m: f"MixerBlock_{m[1]}/LayerNorm_{m[2]}/{m[3]}",
        same,
    ),
    (
        r"Mixer/encoderblock_(\d{1,4})/(token|channel)_mixing_phase_0/(kernel|bias)([12])",
        lambda m: f"MixerBlock_{m[1]}/{m[2]}_mixing/Dense_{_previous(m[4])}/{m[3]}",
        StoredArray.without_leading_one,
    ),
    # timm's names.
    (r"stem\.proj\.weight", lambda m: "stem/kernel", convolution),
    (r"stem\.proj\.bias", lambda m: "stem/bias", same),
    (
        r"blocks\.(\d{1,4})\.norm([12])\.(weight|bias)",
        lambda m: f"MixerBlock_{m[1]}/LayerNorm_{_previous(m[2])}/{NORM_LEAF[m[3]]}",
        same,
    ),
    (
        r"blocks\.(\d{1,4})\.mlp_(token|channel)s\.fc([12])\.(weight|bias)",
        lambda m: f"MixerBlock_{m[1]}/{m[2]}_mixing/Dense_{_previous(m[3])}/{LEAF[m[4]]}",
        dense,  # leaves a bias, which has one axis, as it is
    ),
    (r"norm\.(weight|bias)", lambda m: f"pre_head_layer_norm/{NORM_LEAF[m[1]]}", same),
    (r"head\.(weight|bias)", lambda m: f"head/{LEAF[m[1]]}", dense),
)


def to_official_names(arrays: dict[str, StoredArray]) -> dict[str, StoredArray]:
    """Renames and reorders the arrays of any known layout to the official one.

    Raises:
        ValueError: If two keys stand for the same weight, or a sibling's fixed buffers hold other values than its own.
    """
    arrays, rules = sibling_layout(arrays) or (arrays, _RULES)
    patterns = tuple((re.compile(pattern), name, change) for pattern, name, change in rules)
    official: dict[str, StoredArray] = {}
    for key, array in arrays.items():
        name, change = _translate(key, patterns)
        if name in official:
            raise ValueError(f"The checkpoint holds {name} twice, the second time as {key!r}.")
        official[name] = change(array)
    return official


def _translate(key: str, patterns) -> tuple[str, Callable[[StoredArray], StoredArray]]:
    for pattern, name, change in patterns:
        match = pattern.fullmatch(key)
        if match:
            return name(match), change
    return key, same
