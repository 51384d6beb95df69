"""What a student learns of a teacher, on the backend of this process.

Usage: distilled.py FOLDER, which leaves FOLDER/steps.npz and runs in FOLDER.
"""

import dataclasses
import pathlib
import shutil
import sys

import numpy as np

SIDE, CLASSES, BATCH, STEPS, RATE = 4, 3, 8, 3, 0.5
WEIGHT, TEMPERATURE, SMOOTHING = 0.7, 3.0, 0.1
STUDENT, TEACHER = {"mean": 0.5, "std": 0.5}, {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.4, 0.6)}


def data() -> dict[str, np.ndarray]:
    """Images in the student's range, one-hot labels, and kernels and biases of both."""
    random = np.random.default_rng(0)
    inputs = SIDE * SIDE * 3
    return {
        "images": random.uniform(-1, 1, (STEPS * BATCH, SIDE, SIDE, 3)).astype("float32"),
        "labels": np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, STEPS * BATCH)],
        **{f"{who}_kernel": random.normal(size=(inputs, CLASSES)).astype("float32") / 3 for who in ("own", "teacher")},
        **{f"{who}_bias": random.normal(size=CLASSES).astype("float32") for who in ("own", "teacher")},
    }


def steps(micro_batches: int) -> dict[str, np.ndarray]:
    """Trains a linear student by plain gradient descent; returns its weights and the loss of each step."""
    import keras

    from keras_mixer.preprocessing import Preprocessing
    from keras_mixer.training import training_model
    from keras_mixer.training.devices.distribution import Distribution
    from keras_mixer.training.distillation import Teacher
    from keras_mixer.training.recipe import (
        DistillationSpec,
        ExecutionSpec,
        ModelSpec,
        OptimizerSpec,
        Recipe,
        ScheduleSpec,
    )

    def linear(who: str) -> keras.Model:
        inputs = keras.Input((SIDE, SIDE, 3))
        flat = keras.layers.Flatten()(inputs)
        flat = keras.layers.Dropout(0.5)(flat) if who == "teacher" else flat  # does nothing in inference mode
        model = keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(flat))
        model.set_weights([given[f"{who}_kernel"], given[f"{who}_bias"]])
        return model

    given = data()
    recipe = Recipe(
        name="steps",
        model=ModelSpec(),
        optimizer=OptimizerSpec(name="sgd", learning_rate=RATE, momentum=0.0, global_clipnorm=None),
        schedule=ScheduleSpec(steps=STEPS, decay="constant"),
        distillation=DistillationSpec("a run", weight=WEIGHT, temperature=TEMPERATURE),
        execution=ExecutionSpec(micro_batches=micro_batches),
        batch_size=BATCH,
        label_smoothing=SMOOTHING,
    )
    shape = {"image_size": (SIDE, SIDE), "resize": "direct"}
    teacher = Teacher(linear("teacher"), Preprocessing(**shape, **TEACHER), Preprocessing(**shape, **STUDENT))
    student = linear("own")
    model = training_model(student, recipe, STEPS, Distribution("default"), teacher=teacher)
    losses, accuracies = [], []
    for step in range(STEPS):
        part = slice(step * BATCH, (step + 1) * BATCH)
        logs = model.fit(given["images"][part], given["labels"][part], batch_size=BATCH, shuffle=False, verbose=0)
        losses.append(logs.history["loss"][0])
        accuracies.append(logs.history["accuracy"][0])
    kernel, bias = student.get_weights()
    evaluated = model.evaluate(given["images"], given["labels"], batch_size=BATCH, verbose=0, return_dict=True)
    return {
        "kernel": kernel,
        "bias": bias,
        "losses": np.array(losses),
        "accuracies": np.array(accuracies),
        "evaluated": np.array(evaluated["loss"]),
        "variables": np.array(len(model.variables)),
    }


def runs(folder: pathlib.Path) -> None:
    """Trains a teacher; then a student in one go, as one that is interrupted, and as one that becomes longer."""
    import keras

    from keras_mixer.training import Recipe, train

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                raise KeyboardInterrupt

    recipe = Recipe.from_json((folder / "recipe.json").read_text())
    convolutions = {"architecture": "conv_mixer", "hidden_dim": "8", "num_blocks": "1", "kernel_size": "3"}
    mixer = {"tokens_mlp_dim": "null", "channels_mlp_dim": "null"}
    train(
        recipe.override({f"model.{name}": value for name, value in (convolutions | mixer).items()}), folder / "teacher"
    )
    taught = recipe.override({"distillation.teacher": str(folder / "teacher")})
    train(taught, folder / "whole")
    try:
        train(taught, folder / "resumed", callbacks=[Interrupt()])
    except KeyboardInterrupt:
        train(taught, folder / "resumed")
    shutil.copytree(folder / "resumed", folder / "first")
    longer = dataclasses.replace(taught, schedule=dataclasses.replace(taught.schedule, steps=20))
    train(longer, folder / "whole_longer")
    train(longer, folder / "resumed")


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    found = {f"{parts}/{name}": value for parts in (1, 2) for name, value in steps(parts).items()}
    np.savez(target / "steps.npz", **found)
    if (target / "recipe.json").exists():
        runs(target)
