"""Writes a confusion matrix as the file that `--confusion` names: counts or a picture."""

import pathlib


def write_confusion(counts, class_names, path: str, title: str) -> None:
    """Writes the counts with the names of the classes before rows and columns, or draws them."""
    target = pathlib.Path(path)
    if target.suffix != ".csv":
        from keras_mixer.evaluation.pictures import draw_confusion
        from keras_mixer.visualization import save_figure

        save_figure(draw_confusion(counts, class_names, title), target)
        return
    import csv

    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true class", *class_names])
        writer.writerows([name, *row] for name, row in zip(class_names, counts.tolist(), strict=True))
