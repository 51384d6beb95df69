"""Writes the `.pyi` files whose names come from the catalogue and the layers: `python tools/stubs.py`.

These are the stubs of `keras_mixer`, `applications`, `siblings`, `layers` and `models`, so that a new variant or layer
needs no edit here. The stubs of the other packages are written by hand. Type checkers, editors and lazy_loader read
the files.
"""

import ast
import inspect
from pathlib import Path

from keras_mixer.applications import CONSTRUCTORS
from keras_mixer.models.catalogue import CATALOGUE

PACKAGE = Path(__file__).parent.parent / "keras_mixer"

_SUBPACKAGES = (
    "applications",
    "artefacts",
    "data",
    "engines",
    "evaluation",
    "export",
    "layers",
    "models",
    "prediction",
    "reported",
    "serving",
    "siblings",
    "training",
    "visualization",
    "weights",
)
_MODELS = {
    "catalogue": (
        "ARCHITECTURES",
        "architectures",
        "build",
        "find_architecture",
        "find_variant",
        "multiply_adds",
        "register",
    ),
    "image_model": ("ImageModel", "feature_model"),
    "record": ("Architecture", "Layout", "Rule", "Variant", "WeightSet"),
}
_APPLICATIONS = """# Written by tools/stubs.py.
import os

import keras

from .constructors import Constructors

CONSTRUCTORS: Constructors

"""
_SIBLINGS = """# Written by tools/stubs.py.
from .applications import CONSTRUCTORS as CONSTRUCTORS
from .models.catalogue import preprocessing_of as preprocessing_of
"""


def stubs() -> dict[Path, str]:
    """Returns the contents of every stub by its path."""
    root = {
        "models.image_model": ["feature_model"],
        "preprocessing": ["preprocess_input"],
        "weights.published.class_names": ["decode_predictions"],
    }
    models: dict = dict(_MODELS)
    constructors: list[str] = []
    for architecture in CATALOGUE:
        home = "applications" if architecture.name == "mixer" else "siblings"
        root.setdefault(home, []).extend(row.constructor for row in architecture.variants)
        constructors += [row.name for row in architecture.variants]
        module = architecture.builder.__module__.removeprefix("keras_mixer.")
        root[module] = [architecture.builder.__name__]
        models[module.removeprefix("models.")] = _public(PACKAGE / f"{module.replace('.', '/')}.py")
    return {
        PACKAGE / "__init__.pyi": _lines(root, _SUBPACKAGES),
        PACKAGE / "applications.pyi": _APPLICATIONS + "".join(map(_definition, constructors)),
        PACKAGE / "siblings.pyi": _SIBLINGS
        + "".join(f"from .applications import {n} as {n}\n" for n in sorted(root["siblings"])),
        PACKAGE / "layers" / "__init__.pyi": _lines(_public_layers()),
        PACKAGE / "models" / "__init__.pyi": _lines(models),
    }


def _definition(variant: str) -> str:
    """Returns the signature of a constructor as the formatter writes it."""
    constructor = CONSTRUCTORS[variant]
    arguments = [str(argument).replace("'", '"') for argument in inspect.signature(constructor).parameters.values()]
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"def {constructor.__name__}(\n{lines}) -> keras.Model: ...\n"


def _public_layers() -> dict[str, list[str]]:
    """Returns, by module, the layers that register themselves with Keras."""
    layers = {}
    for path in (PACKAGE / "layers").glob("[a-z]*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        layers[path.stem] = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.decorator_list]
    return layers


def _public(path: Path) -> list[str]:
    """Returns the public names that an architecture's file defines: builder, type of a variant, table of variants."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def _lines(names: dict, subpackages=()) -> str:
    lines = [f"from . import {name} as {name}" for name in subpackages]
    lines += sorted(f"from .{module} import {name} as {name}" for module, group in names.items() for name in group)
    version = ["", "__version__: str"] if subpackages else []
    return "\n".join(["# Written by tools/stubs.py.", *lines, *version]) + "\n"


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
