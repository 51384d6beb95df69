"""Whether XLA compiles a model that is measured."""

import keras


def worth_compiling() -> bool:
    """Whether a model should be compiled where its user does not say; the answer depends on the backend of Keras.

    TensorFlow: where this machine has an accelerator, for on a CPU compilation takes longer than short experiments do,
    and Keras compiles wherever it can unless told otherwise. JAX: always, for else it computes operation by operation.
    PyTorch: never, as is Keras's own choice there.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
