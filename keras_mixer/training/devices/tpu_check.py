"""Compiles the training step of a recipe for a TPU, without a TPU: memory per chip, FLOPs, the largest batch.

The TPU compiler runs on any Linux machine and needs only the name of a topology. It compiles the step of the JAX
backend, data-parallel over all chips, or the step of one replica on the TensorFlow backend. It runs in a separate
process, because the step needs that backend and because some errors end the compiler's process.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

from keras_mixer.extras import require
from keras_mixer.training.recipe import Recipe

INSTALL = "pip install 'keras_mixer[tensorflow-cpu,tpu-check]'"
_TOPOLOGY = re.compile(r"v\d\w*:\d+(x\d+)+")
_ENVIRONMENT = {
    # Keep libtpu from looking for a TPU on this machine and from asking a cloud's metadata server for one. Several
    # compilers may run at a time, because none of them uses a TPU.
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
BACKENDS = ("jax", "tensorflow")
_LARGEST = 2**20  # examples of the largest batch that is tried
_BISECTIONS = 3  # compilations between a batch that fits and its double, which does not


@dataclasses.dataclass(frozen=True)
class TpuCheck:
    """The compiler's result for one batch size. If the step does not fit, the costs are None."""

    topology: str
    chips: int  # number of chips in the topology
    batch_size: int  # examples of all chips together
    fits: bool  # whether the step fits in the memory of a chip
    argument_bytes: int | None = None  # weights, optimizer state and the chip's share of the batch
    temporary_bytes: int | None = None  # further memory of the step, per chip
    flops: float | None = None  # floating-point operations of a step per chip, as the compiler counts them
    all_reduces: int | None = None  # sums over the chips in a step; None on TensorFlow, which compiles one replica
    compile_seconds: float = 0.0
    message: str = ""  # the compiler's error if the step does not fit
    backend: str = "jax"


def tpu_check(recipe: Recipe, topology: str, classes: int = 1000, backend: str = "jax") -> TpuCheck:
    """Compiles one training step of `recipe` for `topology`.

    The TensorFlow backend compiles the step of one replica on one chip's share of the batch, without the sums of
    gradients over the chips.

    Args:
        recipe: The recipe. Its `batch_size` is that of all chips together.
        topology: Chips and their arrangement, such as "v5e:2x4", "v6e:2x2" or "v5p:2x2x1".
        classes: Classes of the head.
        backend: "jax" or "tensorflow".

    Raises:
        ValueError: If the topology or the backend is unknown, the chips cannot share the batch, or the recipe has a
            teacher.
        ImportError: If libtpu is not installed, or if JAX lacks an interface that TensorFlow's step needs.
        RuntimeError: If the compiler fails for a reason other than memory.

    Example:
        >>> recipe = keras_mixer.training.recipes.get("imagenet_b16").override({"batch_size": "1024"})
        >>> keras_mixer.training.tpu_check(recipe, "v5e:2x4").fits
        True
    """
    if not _TOPOLOGY.fullmatch(topology):
        raise ValueError(f"A topology is written like v5e:2x4, v6e:2x2 or v5p:2x2x1, but got {topology!r}.")
    if backend not in BACKENDS:
        raise ValueError(f"The backend is one of {', '.join(BACKENDS)}, but got {backend!r}.")
    if recipe.distillation.teacher is not None:
        raise ValueError("tpu-check compiles a step without a teacher: set distillation.teacher to null.")
    require(*dict.fromkeys(("jax", "libtpu", backend)), command=INSTALL, purpose="tpu-check")
    process = subprocess.run(
        [sys.executable, "-m", "keras_mixer.training.loop.tpu_program"],
        input=json.dumps({"recipe": recipe.to_json(), "topology": topology, "classes": classes}),
        capture_output=True,
        text=True,
        env={**os.environ, **_ENVIRONMENT, "KERAS_BACKEND": backend},
    )
    answer = process.stdout.strip().rsplit("\n", 1)[-1]
    if process.returncode or not answer.startswith("{"):
        last = process.stderr.strip().rsplit("\n", 1)[-1]
        raise RuntimeError(f"The compiler for {topology} ended with status {process.returncode}: {last}")
    result = json.loads(answer)
    if "missing" in result:
        raise ImportError(result["missing"])
    if "error" in result:
        raise ValueError(result["error"])
    return TpuCheck(**result)


def largest_batch(recipe: Recipe, check: Callable[[Recipe], TpuCheck]) -> TpuCheck | None:
    """Finds approximately the largest batch that fits. Doubles or halves the recipe's batch size, then bisects.

    The result and the smallest batch that failed differ by about an eighth, or by one example per chip and micro-batch.
    Each step compiles once.

    Args:
        recipe: The recipe to start from.
        check: Compiles one recipe: `tpu_check` with its other arguments filled in.

    Returns:
        The check of the largest batch found, or None if one example per chip and micro-batch does not fit.
    """
    result = check(recipe)
    smallest = result.chips * recipe.execution.micro_batches
    fits, fails = (result, None) if result.fits else (None, result.batch_size)

    def attempt(batch_size: int) -> None:
        nonlocal fits, fails
        result = check(dataclasses.replace(recipe, batch_size=batch_size // smallest * smallest))
        if result.fits:
            fits = result
        else:
            fails = result.batch_size

    while fits is not None and fails is None and fits.batch_size * 2 <= _LARGEST:
        attempt(fits.batch_size * 2)
    while fits is None and fails is not None and fails > smallest:
        attempt(max(fails // 2, smallest))
    for _ in range(_BISECTIONS):
        if fits is not None and fails is not None and fails - fits.batch_size > smallest:
            attempt((fits.batch_size + fails) // 2)
    return fits
