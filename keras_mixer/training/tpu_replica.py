"""The training step of the TensorFlow backend for a TPU that is not here: of one replica, on one chip.

TensorFlow gives the StableHLO of a step, lowered for the CPU of this machine; JAX's package hands it to the compiler of
TPUs. Each replica of a `TPUStrategy` runs this step on its share of the batch. The sums of gradients and metrics over
the replicas, which a strategy adds, are not in it.
"""

from typing import Any

import tensorflow as tf

VERIFIED = "jax 0.10.2 with libtpu 0.0.51 and TensorFlow 2.21"


def compile_replica(model, images: tuple[int, ...], labels: tuple[int, ...], device) -> dict:
    """Compiles the step of one replica for one chip.

    Args:
        model: A `TensorFlowTrainingModel`, compiled, with its variables on the CPU.
        images: Shape of the replica's images.
        labels: Shape of its labels.
        device: The chip, of a topology of JAX.

    Returns:
        The fields of `TpuCheck` that the compiler fills.

    Raises:
        ImportError: If the interface that takes StableHLO is not in this JAX.
        jax.errors.JaxRuntimeError: If the step does not fit, or by another fault of the compiler.
    """
    executable = _compile(_stable_hlo(model, images, labels), device)
    memory = executable.get_compiled_memory_stats()
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "flops": executable.cost_analysis().get("flops"),
        "all_reduces": None,
    }


def _stable_hlo(model, images: tuple[int, ...], labels: tuple[int, ...]) -> str:
    """Returns the step as text; every variable is an argument, and a result in its place."""
    model._maybe_symbolic_build()
    step = tf.function(lambda *batch: model.train_step(batch), jit_compile=True)
    lowered = step.experimental_get_compiler_ir(tf.TensorSpec(images), tf.TensorSpec(labels))
    # For a TPU by its name TensorFlow refuses variables that are not on one.
    text = lowered(stage="stablehlo", platform_name="CPU")
    # A copy stands before each variable that is returned. Its operation is not of StableHLO, and the compiler of TPUs
    # rejects it; a conversion to the same type is written alike and does nothing either.
    return text.replace("mhlo.copy", "stablehlo.convert")


def _compile(text: str, device) -> Any:
    """Compiles StableHLO for one chip. JAX has no public way to do it: nothing else here touches what may change."""
    import jax

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
            f"The TensorFlow step is compiled through interfaces of JAX that are not public, as {VERIFIED} have them; "
            f"jax {jax.__version__} does not ({error}). Install the former with pip install "
            f"'keras_mixer[tensorflow-cpu,tpu-check]', or check the step of the JAX backend."
        ) from error
