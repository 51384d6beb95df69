"""The program that `tpu_check` starts: reads a recipe from standard input, compiles its step, prints JSON."""

import dataclasses
import json
import sys
import time
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import topologies

from keras_mixer.training.distribution import Distribution, hide_from_tensorflow
from keras_mixer.training.network import dtype_policy, initial_network
from keras_mixer.training.recipe import Recipe
from keras_mixer.training.step import training_model


def main() -> None:
    """Compiles what standard input asks for and prints the result.

    That is `{"error": ...}` for bad input, and `{"missing": ...}` where another version of a library is needed.
    """
    asked = json.load(sys.stdin)
    try:
        result = compile_step(Recipe.from_json(asked["recipe"]), asked["topology"], asked["classes"])
    except ValueError as error:
        result = {"error": str(error)}
    except ImportError as error:
        result = {"missing": str(error)}
    print(json.dumps(result))


def compile_step(recipe: Recipe, topology_name: str, classes: int) -> dict:
    """Compiles one step; returns the fields of `TpuCheck`."""
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=topology_name)
    except Exception as error:  # libtpu's own kinds
        raise ValueError(f"libtpu knows no topology {topology_name!r}: {error}") from error
    chips = len(topology.devices)
    Distribution("data_parallel", replicas=chips).check_batch(
        "batch_size", recipe.batch_size, recipe.execution.micro_batches
    )
    backend = keras.backend.backend()
    result = {"topology": topology_name, "chips": chips, "batch_size": recipe.batch_size, "backend": backend}
    started = time.monotonic()
    try:
        on_backend = _on_tensorflow if backend == "tensorflow" else _on_jax
        compiled = on_backend(recipe, classes, topology.devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        unknown = dict.fromkeys(("argument_bytes", "temporary_bytes", "flops", "all_reduces"))
        message = " ".join(str(error).split())[:300]
        return {**result, **unknown, "fits": False, "compile_seconds": time.monotonic() - started, "message": message}
    return {**result, **compiled, "fits": True, "compile_seconds": time.monotonic() - started, "message": ""}


def _on_jax(recipe: Recipe, classes: int, devices) -> dict:
    """Compiles the data-parallel step over all chips."""
    model = _model(recipe, classes)
    images, labels = _batch(recipe, classes, recipe.batch_size)
    model._symbolic_build(data_batch=(keras.KerasTensor(images), keras.KerasTensor(labels), None))
    state = model._get_jax_state(
        trainable_variables=True, non_trainable_variables=True, optimizer_variables=True, metrics_variables=True
    )
    state = tuple(list(values) for values in state)
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shared = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    state_shapes = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=whole), state)
    batch = tuple(jax.ShapeDtypeStruct(shape, "float32", sharding=shared) for shape in (images, labels))
    step = jax.jit(model.train_step, donate_argnums=0, out_shardings=(None, jax.tree.map(lambda _: whole, state)))
    compiled = step.lower(state_shapes, batch).compile()
    # The compiler of TPUs answers all three; others may not.
    memory: Any = compiled.memory_analysis()
    cost: Any = compiled.cost_analysis()
    text: Any = compiled.as_text()
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "flops": cost.get("flops"),
        "all_reduces": text.count(" all-reduce("),
    }


def _on_tensorflow(recipe: Recipe, classes: int, devices) -> dict:
    """Compiles the step of one replica, on its chip's share of the batch."""
    from keras_mixer.training.tpu_replica import compile_replica

    hide_from_tensorflow("GPU")  # variables on one could not be lowered for the CPU
    shapes = _batch(recipe, classes, recipe.batch_size // len(devices))
    return compile_replica(_model(recipe, classes), *shapes, devices[0])


def _model(recipe: Recipe, classes: int) -> Any:
    with dtype_policy(recipe.execution.precision):
        network = initial_network(_without_weights(recipe.model), classes, recipe.name)
        return training_model(network, recipe, _steps(recipe), Distribution("default", accelerated=True))


def _batch(recipe: Recipe, classes: int, examples: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of images and labels."""
    return (examples, *recipe.model.image_size, recipe.model.channels), (examples, classes)


def _without_weights(spec):
    # Their values change nothing that is asked here, and fetching them would.
    return dataclasses.replace(spec, weights=None)


def _steps(recipe: Recipe) -> int:
    """A length of the run that its warmup fits in; the data that would tell is not here."""
    return recipe.schedule.steps or 2 * recipe.schedule.warmup_steps + 1


if __name__ == "__main__":
    main()
