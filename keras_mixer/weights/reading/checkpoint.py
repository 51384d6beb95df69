"""Opens checkpoints and gives their weights official names, such as `MixerBlock_3/token_mixing/Dense_0/kernel`."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from keras_mixer.models.catalogue import architectures
from keras_mixer.models.record import Layout
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.sublayers import all_layers
from keras_mixer.weights.reading.formats import Arrays, StoredArray, open_arrays, recorded_preprocessing

# Prefixes of a model in the checkpoint of a training run: of Flax, and of PyTorch, torch.compile and Lightning.
_WRAPPERS = (
    *("params/", "opt/target/", "target/"),
    *("module.", "_orig_mod.", "model.", "state_dict.", "model_state_dict.", "params."),
)
_AVERAGES = ("ema", "model_ema", "ema_model", "ema_params", "params_ema", "state_dict_ema", "ema_state_dict")
_STATES = re.compile(rf"opt|opt_state|optim|optimizers?|optimizer_(states?|state_dict)|{'|'.join(_AVERAGES)}")
_COUNTERS = re.compile(
    r"(lr_|scheduler_|lr_scheduler_)?(scheduler|schedulers|state_dict)|(amp_|loss_|grad_)?scaler|amp|epoch|step|"
    r"global_step|iter|iteration|args|config|hparams|hyper_parameters|callbacks|loops|lr|loss|metrics?|best_\w+|"
    r"rngs?|(torch_|cuda_)?rng_states?|random_state|seed|version"
)
_OF_A_LAYER = re.compile(r"kernel|bias|scale|gamma|beta|weight|\d+")
_LEAVES = {"gamma": "scale", "beta": "bias"}  # Keras's names -> the official ones


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An open file of weights."""

    path: Path
    arrays: Arrays  # by official name; Keras's files number a layer's weights instead, such as `stem/0`
    preprocessing: Preprocessing | None = None  # that the weights expect, as far as the file or the registry says

    @property
    def classes(self) -> int | None:
        """Number of classes of the head; None without a head."""
        return self.kernel_shape("head")[1]

    @property
    def image_channels(self) -> int | None:
        """Number of image channels that the stem reads; None without a stem."""
        stems = [self.arrays[name].shape for name in ("stem/kernel", "stem/0") if name in self.arrays]
        return stems[0][2] if stems and len(stems[0]) == 4 else None

    def kernel_shape(self, layer: str) -> tuple[int | None, int | None]:
        """Returns the shape of a layer's kernel matrix; (None, None) if the file does not have it."""
        for name in (f"{layer}/kernel", f"{layer}/0"):
            array = self.arrays.get(name)
            if array is not None and len(array.shape) == 2 and 0 not in array.shape:
                array.check_size(name)
                return array.shape[0], array.shape[1]
        return None, None

    def named_for(self, weights: Iterable[str]) -> Arrays:
        """Returns the arrays with official names in place of numbers: `layer/0` becomes the layer's first weight.

        `weights` are official names in the order of the model. An array without a matching weight keeps its name, or is
        left out if its name says that it belongs to the training, such as the state of an optimizer.
        """
        weights = list(weights)
        members: dict[str, list[str]] = {}
        for name in weights:
            members.setdefault(name.rpartition("/")[0], []).append(name)
        renamed = {}
        for key, array in self.arrays.items():
            owner, _, number = key.rpartition("/")
            names = members.get(owner, [])
            known = number.isascii() and number.isdigit() and int(number) < len(names)
            renamed[names[int(number)] if known else key] = array
        expected = set(weights)
        return {name: array for name, array in renamed.items() if name in expected or not _is_companion(name)}


@contextlib.contextmanager
def open_checkpoint(path: str | os.PathLike, preprocessing: Preprocessing | None = None) -> Iterator[Checkpoint]:
    """Opens a file in any known layout. Its arrays can be read inside the `with` block.

    `preprocessing` is what the weights expect; None takes it from a `.keras` file that records it.
    """
    path = Path(os.path.expanduser(path))
    with open_arrays(path) as arrays:
        yield Checkpoint(path, _officially_named(arrays), preprocessing or recorded_preprocessing(path))


def _is_companion(key: str) -> bool:
    """Returns whether a key looks like what a training run saves beside the weights, and not like a layer's weight."""
    first, *rest = re.split(r"[./]", key)
    if _STATES.fullmatch(first) and len(rest) > 1:
        return True
    named = _STATES.fullmatch(first) or _COUNTERS.fullmatch(first)
    return bool(named) and not (rest and _OF_A_LAYER.fullmatch(rest[-1]))


def _unwrapped(arrays: Arrays) -> Arrays:
    """Removes the prefix of a wrapper from the keys, such as "module." of PyTorch's DataParallel.

    Of a model and its moving average, the model remains. If several wrappers hold a model, nothing is removed. With a
    slash, the prefix may be the name of a layer, so only companions may be beside it.
    """
    if _holds_model(arrays):
        return arrays
    for wrappers in (_WRAPPERS, [average + separator for average in _AVERAGES for separator in "/."]):
        found = {}
        for wrapper in wrappers:
            inside = {key.removeprefix(wrapper): array for key, array in arrays.items() if key.startswith(wrapper)}
            model = _unwrapped(inside) if inside else inside
            if _holds_model(model) or 0 < len(inside) == len(arrays):
                found[wrapper] = model
        if len(found) == 1:
            ((wrapper, model),) = found.items()
            others = {key: array for key, array in arrays.items() if not key.startswith(wrapper)}
            if wrapper.endswith(".") or all(map(_is_companion, others)):
                return {**others, **model}
    return arrays


def _holds_model(arrays: Arrays) -> bool:
    return "stem/kernel" in arrays or _layout_of(arrays) is not None


def _layout_of(arrays: Arrays) -> Layout | None:
    layouts = [layout for architecture in architectures() for layout in architecture.layouts]
    return next((one for one in layouts if any(re.fullmatch(one.signature, key) for key in arrays)), None)


def _officially_named(arrays: Arrays) -> Arrays:
    arrays = _unwrapped(arrays)
    layout = _layout_of(arrays)
    if layout is None:
        return arrays
    official: dict[str, StoredArray] = {}
    for key, array in layout.prepare(arrays).items():
        name, weight = layout.official(key, array)
        if name in official:
            raise ValueError(f"The checkpoint holds {name} twice, the second time as {key!r}.")
        official[name] = weight
    return official


def quantised_layer(model) -> str:
    """Returns name and mode of a model's first quantised layer, for messages; an empty string if there is none."""
    layers = (layer for layer in all_layers(model) if getattr(layer, "quantization_mode", None) and layer.weights)
    return next((f"the layer {layer.name!r}: {layer.quantization_mode}" for layer in layers), "")


def named_weights(model) -> dict:
    """Returns the model's variables by official name, which is "layer/sublayers/kernel", "/scale" or "/bias".

    LoRA matrices are left out, because `weight_values` merges them into the kernels. Raises ValueError if the model is
    quantised or has no weights.
    """
    if found := quantised_layer(model):
        raise ValueError(
            f"{model.name!r} is quantised ({found}), and quantised weights have no official names. Load weights, "
            "change the resolution, permute or write a .npz before `model.quantize`; save the quantised model with "
            "`model.save` and load it with `keras.models.load_model`."
        )
    adapters = {id(matrix) for layer in _with_lora(model) for matrix in (layer.lora_kernel_a, layer.lora_kernel_b)}
    weights: dict = {}
    for layer in model.layers:
        for variable in layer.weights:
            if id(variable) in adapters:
                continue
            # The name of a nested layer starts with the name of the outer layer, which may lie in a `name_scope`.
            _, _, inner = f"/{variable.path}".partition(f"/{layer.name}/")
            parent, slash, leaf = (inner or variable.path).rpartition("/")
            name = f"{layer.name}/{parent}{slash}{_LEAVES.get(leaf, leaf)}"
            if name in weights:
                raise ValueError(f"The model has two weights named {name}.")
            weights[name] = variable
    if not weights:
        raise ValueError("The model has no weights: build it before its weights are loaded or saved.")
    return weights


def weight_values(model) -> dict[str, np.ndarray]:
    """Returns the values of the model's weights by official name, with LoRA merged into the kernels."""
    from keras import ops

    deltas = {}
    for layer in _with_lora(model):
        a, b = (ops.convert_to_numpy(matrix).astype("float32") for matrix in (layer.lora_kernel_a, layer.lora_kernel_b))
        deltas[id(_kernel_of(layer))] = layer.lora_alpha / layer.lora_rank * a @ b
    values = {}
    for name, variable in named_weights(model).items():
        values[name] = ops.convert_to_numpy(variable)
        if id(variable) in deltas:
            values[name] = values[name].astype("float32") + deltas[id(variable)]
    return values


def assign_weights(model, values: Mapping[str, np.ndarray]) -> None:
    """Assigns values by official name. LoRA matrices of an assigned kernel are reset, as when Keras loads weights."""
    from keras import ops

    weights = named_weights(model)
    assigned = {id(weights[name]) for name in values}
    for name, array in values.items():
        weights[name].assign(ops.cast(array, weights[name].dtype))
    for layer in _with_lora(model):
        if id(_kernel_of(layer)) in assigned:
            layer.lora_kernel_b.assign(np.zeros(layer.lora_kernel_b.shape))


def _with_lora(model) -> list:
    return [layer for layer in all_layers(model) if getattr(layer, "lora_enabled", False)]


def _kernel_of(layer):
    return next(variable for variable in layer.weights if variable.name == "kernel")


def layers_before_stem(model) -> frozenset[str]:
    """Returns the names of the layers between the model's inputs and its stem, which belong to an `input_tensor`."""
    import keras

    stem = next((layer for layer in model.layers if layer.name == "stem"), None)
    if stem is None or not getattr(model, "inputs", None):
        return frozenset()
    try:
        images = stem.input
    except (AttributeError, ValueError):  # the stem was called by several models, or by none
        return frozenset()
    return frozenset(layer.name for layer in keras.Model(model.inputs, images).layers)
