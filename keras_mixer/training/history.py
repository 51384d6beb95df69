"""What a run did, period by period: a CSV file and a picture of the learning curves."""

import csv
import os
from collections.abc import Sequence

from keras_mixer.files import written_whole

COLUMNS = ("step", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


def write_csv(rows: Sequence[dict], path: str | os.PathLike) -> None:
    """Writes the rows, whole or not at all."""
    with written_whole(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def draw_curves(rows: Sequence[dict], path: str | os.PathLike, title: str) -> None:
    """Draws loss and accuracy over epochs, for training and evaluation, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The curves need Matplotlib: pip install matplotlib") from error

    # A figure of its own, not pyplot's: nothing is shown, and no global state is touched.
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) == 1 else None
    for axes, name, label in ((loss, "loss", "Loss"), (accuracy, "accuracy", "Accuracy")):
        axes.plot(epochs, [row[name] for row in rows], label="training", marker=marker)
        axes.plot(epochs, [row[f"val_{name}"] for row in rows], label="evaluation", marker=marker)
        axes.set(xlabel="Epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
