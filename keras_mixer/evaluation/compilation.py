"""Whether XLA compiles a model that is measured."""


def worth_compiling() -> bool:
    """Whether this machine has an accelerator: on a CPU compilation takes longer than short experiments do.

    Keras compiles with XLA wherever it can unless told otherwise.
    """
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
