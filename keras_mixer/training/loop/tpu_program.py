"""The program that `tpu_check` starts. It reads a recipe from standard input, compiles its step and prints JSON."""

import dataclasses
import json
import sys
import time
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import topologies

from keras_mixer.training.devices.distribution import Distribution, default_settings, hide_from_tensorflow
from keras_mixer.training.loop.step import training_model
from keras_mixer.training.network import dtype_policy, freeze_body, initial_network
from keras_mixer.training.recipe import Recipe, is_trained_model

VERIFIED = "jax 0.10.2 with libtpu 0.0.51 and TensorFlow 2.21"


def main() -> None:
    """Prints the result, `{"error": ...}` for bad input, or `{"missing": ...}` if a library has another version."""
    asked = json.load(sys.stdin)
    try:
        with default_settings():
            result = compile_step(Recipe.from_json(asked["recipe"]), asked["topology"], asked["classes"])
    except ValueError as error:
        result = {"error": str(error)}
    except ImportError as error:
        result = {"missing": str(error)}
    print(json.dumps(result))


def compile_step(recipe: Recipe, topology_name: str, classes: int) -> dict:
    """Compiles one step and returns the fields of `TpuCheck`."""
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=topology_name)
    except Exception as error:  # libtpu raises its own types
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
        result |= {"fits": True, **on_backend(recipe, classes, topology.devices)}
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        result |= {"fits": False, "message": " ".join(str(error).split())[:300]}
    return {**result, "compile_seconds": time.monotonic() - started}


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
    text: Any = compiled.as_text()  # some compilers have none
    return _costs(compiled.memory_analysis(), compiled.cost_analysis(), text.count(" all-reduce("))


def _on_tensorflow(recipe: Recipe, classes: int, devices) -> dict:
    """Compiles the step of one replica of a `TPUStrategy` for one chip, with its share of the batch.

    TensorFlow lowers the step to StableHLO for this machine's CPU, and JAX passes it to the TPU compiler. The step does
    not sum gradients and metrics over the replicas.
    """
    hide_from_tensorflow("GPU")  # the step is lowered for the CPU, so the variables must be there
    shapes = _batch(recipe, classes, recipe.batch_size // len(devices))
    executable = _compile(_stable_hlo(_model(recipe, classes), *shapes), devices[0])
    return _costs(executable.get_compiled_memory_stats(), executable.cost_analysis(), None)


def _costs(memory: Any, cost: Any, all_reduces: int | None) -> dict:
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "flops": cost.get("flops"),
        "all_reduces": all_reduces,
    }


def _stable_hlo(model, images: tuple[int, ...], labels: tuple[int, ...]) -> str:
    """Returns the step as text. Each variable is an argument and, at the same position, a result."""
    import tensorflow as tf

    model._maybe_symbolic_build()
    step = tf.function(lambda *batch: model.train_step(batch), jit_compile=True)
    lowered = step.experimental_get_compiler_ir(tf.TensorSpec(images), tf.TensorSpec(labels))
    # With the platform "TPU", TensorFlow would refuse variables that are not on a TPU.
    text = lowered(stage="stablehlo", platform_name="CPU")
    # The step copies each variable before returning it. That operation is not part of StableHLO, and the TPU compiler
    # rejects it. A conversion to the same type has the same syntax and the same effect.
    return text.replace("mhlo.copy", "stablehlo.convert")


def _compile(text: str, device) -> Any:
    """Compiles StableHLO for one chip with private interfaces of JAX, which has no public one."""
    try:
        from jax._src.compiler import get_compile_options
        from jax._src.lib import xla_client
        from jax.extend.mlir import ir
        from jax.interpreters import mlir

        options = get_compile_options(num_replicas=1, num_partitions=1)
        with mlir.make_ir_context():
            return device.client.compile(ir.Module.parse(text), xla_client.DeviceList((device,)), options)
    except (ImportError, AttributeError, TypeError) as error:
        raise ImportError(
            f"Compiling the TensorFlow step needs private interfaces of JAX. {VERIFIED} has them; jax "
            f"{jax.__version__} does not ({error}). Install the former with pip install "
            f"'keras_mixer[tensorflow-cpu,tpu-check]', or check the step of the JAX backend."
        ) from error


def _model(recipe: Recipe, classes: int) -> Any:
    with dtype_policy(recipe.execution.precision):
        # The values of the weights do not matter, so they are not downloaded. A trained model brings its architecture.
        weights = recipe.model.weights if is_trained_model(recipe.model.weights) else None
        model = dataclasses.replace(recipe.model, weights=weights, frozen=False)
        network = initial_network(dataclasses.replace(recipe, model=model), classes)
        if recipe.model.frozen:
            freeze_body(network)
        # The data is not read, so the number of steps is unknown. Any number above the warm-up will do.
        steps = recipe.schedule.steps or 2 * recipe.schedule.warmup_steps + recipe.schedule.cooldown_steps + 1
        return training_model(network, recipe, steps, Distribution("default", accelerated=True))


def _batch(recipe: Recipe, classes: int, examples: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of images and labels."""
    return (examples, *recipe.preprocessing.input_shape), (examples, classes)


if __name__ == "__main__":
    main()
