"""Optional packages: what to install when one is missing."""

import importlib


def require(*modules: str, extra: str, purpose: str = "") -> None:
    """Imports optional packages.

    Args:
        modules: Names of modules.
        extra: The extra of `keras_mixer` that installs them.
        purpose: What needs them, as the subject of the message, such as "Reading images".

    Raises:
        ImportError: If one cannot be imported; the message holds the pip command.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(
                f'{purpose or "This"} needs {module} ({error}). Install it with: pip install "keras_mixer[{extra}]"'
            ) from error
