"""Says what to install when an optional package is missing."""

import importlib
import importlib.util
from typing import Any


def require(*modules: str, extra: str = "", command: str = "", purpose: str = "This") -> None:
    """Checks that optional packages are installed, without importing them.

    Args:
        *modules: Names of the required modules, such as "onnxruntime".
        extra: The extra of keras_mixer that installs them.
        command: The command that installs them, if no extra does.
        purpose: What needs them. The message begins with this text.

    Raises:
        ImportError: If one is missing. The message names it and the command.

    Example:
        >>> require("onnxruntime", extra="onnx", purpose="Running an .onnx file")
    """
    missing = [module for module in modules if not installed(module)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        command = command or f'pip install "keras_mixer[{extra}]"'
        raise ImportError(f"{purpose} needs {', '.join(missing)}, which {verb} not installed: {command}")


def installed(*modules: str) -> bool:
    """Returns whether all of these modules are installed, without importing them."""
    try:
        return all(importlib.util.find_spec(module) for module in modules)
    except ModuleNotFoundError:  # the package of the module is missing
        return False


class OnFirstUse:
    """A module that is imported when one of its names is first used, for files that serve two frameworks.

    Example:
        >>> tf = OnFirstUse("tensorflow")
        >>> tf.constant(1.0)  # imports TensorFlow
    """

    def __init__(self, module: str):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)
