"""Describes this machine and the installed versions: what was measured or checked elsewhere may not hold here."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import re
from collections.abc import Iterable

_CHOOSE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "JAX_PLATFORMS", "KERAS_TORCH_DEVICE")


def processor() -> str:
    """Returns the model of the CPU and its extensions for matrix products."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        text = ""
    model = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    extensions = set(re.findall(r"\b(?:avx|amx|asimd|sve|i8mm|bf16)\w*", text))
    return " ".join([model[1] if model else platform.processor() or platform.machine(), *sorted(extensions)])


def accelerators() -> list[str]:
    """Returns the GPUs that the NVIDIA driver lists, and the variables that tell frameworks which devices to use."""
    gpus = pathlib.Path("/proc/driver/nvidia/gpus").glob("*/information")
    models = (re.search(r"^Model:\s*(.*)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in gpus)
    chosen = (f"{name}={os.environ[name]}" for name in _CHOOSE_DEVICES if name in os.environ)
    return [*sorted(model[1] for model in models if model), *chosen]


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the installed distributions that contain these modules."""
    contained_in = _distributions()
    names = {name for module in modules for name in contained_in.get(module, [])}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


_distributions = functools.cache(importlib.metadata.packages_distributions)
