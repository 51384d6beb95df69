"""What plain Keras does on several devices and in two processes: the faults that our step and optimizers get past."""

import numpy as np

CLIP = 0.01
X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = 100.0 * np.random.default_rng(1).normal(size=(8, 3)).astype("float32")  # far off: clipping acts


def on_two_devices(mirrored) -> dict[str, float | str]:
    """Norms of a clipped update, by name; and what goes wrong, an empty text for nothing."""
    import keras
    import tensorflow as tf

    from keras_mixer.training import SGD

    return {
        "update, one device": _update(tf.distribute.get_strategy(), keras.optimizers.SGD),
        "update, two devices": _update(mirrored, keras.optimizers.SGD),
        "update, two devices, ours": _update(mirrored, SGD),
        "fit": _fault(mirrored),
        "steps_per_execution": _fault(mirrored, steps_per_execution=2),
        "jit_compile": _fault(mirrored, jit_compile=True),
    }


def in_two_processes(strategy) -> str:
    """What goes wrong in this one of them, an empty text for nothing."""
    return _fault(strategy)


def _model(strategy, optimizer, **options):
    import keras

    with strategy.scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, kernel_initializer="zeros")])
        model.compile(optimizer, loss="mse", **{"jit_compile": False, **options})
    return model


def _update(strategy, optimizer) -> float:
    model = _model(strategy, optimizer(1.0, global_clipnorm=CLIP))
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    return float(np.sqrt(sum((weight**2).sum() for weight in model.get_weights())))


def _fault(strategy, **options) -> str:
    try:
        _model(strategy, "sgd", **options).fit(X, Y, batch_size=4, epochs=1, verbose=0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:2000]
    return ""
