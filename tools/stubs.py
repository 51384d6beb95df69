"""Writes the `__init__.pyi` of the packages that load their names on first use: `python tools/stubs.py`.

The constructors and builders come from the catalogue in `keras_mixer.models`, so that a new variant needs no edit here.
Type checkers, editors and lazy_loader read the files.
"""

import ast
from pathlib import Path

from keras_mixer.models.catalogue import CATALOGUE

PACKAGE = Path(__file__).parent.parent / "keras_mixer"

_SUBPACKAGES = (
    "applications",
    "data",
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
_WEIGHTS = {
    "loading": ("load", "load_with_fresh_head", "save_npz"),
    "published.cache": ("InputPreprocessing", "WeightSet", "available", "download", "find", "preprocess_input"),
    "published.class_names": ("decode_predictions", "names_of", "wordnet_ids"),
    "resolution.change": ("change_resolution",),
    "resolution.permutation": ("permute",),
}


def stubs() -> dict[Path, str]:
    """Returns the contents of every stub by its path."""
    root = {"preprocessing": ["preprocess_input"], "weights.published.class_names": ["decode_predictions"]}
    for architecture in CATALOGUE:
        home = "applications" if architecture.name == "mixer" else "siblings"
        root.setdefault(home, []).extend(row.constructor for row in architecture.variants)
        module = architecture.builder.__module__.removeprefix("keras_mixer.")
        root[module] = [architecture.builder.__name__]
    return {
        PACKAGE / "__init__.pyi": _lines(root, _SUBPACKAGES),
        PACKAGE / "layers" / "__init__.pyi": _lines(_public_layers()),
        PACKAGE / "weights" / "__init__.pyi": _lines(_WEIGHTS),
    }


def _public_layers() -> dict[str, list[str]]:
    """Returns, by module, the layers that register themselves with Keras."""
    layers = {}
    for path in (PACKAGE / "layers").glob("[a-z]*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        layers[path.stem] = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.decorator_list]
    return layers


def _lines(names: dict, subpackages=()) -> str:
    lines = [f"from . import {name} as {name}" for name in subpackages]
    lines += sorted(f"from .{module} import {name} as {name}" for module, group in names.items() for name in group)
    return "\n".join(["# Written by tools/stubs.py.", *lines]) + "\n"


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
