"""Lets training replace the way in which layers compute what lies between two matrix products."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Formula = Callable[..., Any]
_compiler: Callable[[Formula, dict[str, Any]], Formula] | None = None


def elementwise(formula: Formula, *tensors, **settings):
    """Computes `formula(*tensors, **settings)` in the way that `compiling` chose.

    Layers call this function for LayerNorm, and for a GELU with the bias before it. The formula has no matrix product.

    Args:
        formula: A function of a module, from tensors to one tensor.
        *tensors: All tensors and weights that it reads.
        **settings: Its other arguments, which can be hashed.
    """
    if _compiler is None:
        return formula(*tensors, **settings)
    return _compiler(formula, settings)(*tensors)


@contextlib.contextmanager
def compiling(compiler: Callable[[Formula, dict[str, Any]], Formula] | None) -> Iterator[None]:
    """Computes the formulas of all layers in another way while the context lasts.

    Args:
        compiler: Takes a formula and its settings, and returns a function of the tensors. None computes them plainly.
    """
    global _compiler
    before, _compiler = _compiler, compiler
    try:
        yield
    finally:
        _compiler = before
