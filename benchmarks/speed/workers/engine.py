"""The package's Mixer under one of its engines, or under the one that it chooses: `options["engine"]`."""

import pathlib
import tempfile

import numpy as np
from workers.package_mixer import build
from workers.tensorflow_steps import images_of

from keras_mixer.artefacts import export_openvino, open_artefact
from keras_mixer.engines import open_engine

note = None


def prepare(row):
    """One call of the engine, images handed over and scores read included."""
    global note
    images = images_of(row)
    model = build({**row, "dtype": "float32"})
    head = model.get_layer("head")
    head.kernel.assign(np.random.default_rng(1).normal(size=head.kernel.shape))  # it starts at zero
    asked = row["options"]["engine"]
    # Other noise, so that the scales of int8 do not come from the images that they are tried on.
    samples = np.random.default_rng(2).normal(size=images.shape).astype("float32") if row["dtype"] == "int8" else None
    if asked == "openvino" and samples is not None:  # by itself the engine refuses int8 where random weights suffer
        with tempfile.TemporaryDirectory() as folder:
            predictor = open_artefact(export_openvino(model, pathlib.Path(folder) / "model.xml", samples=[samples]))
    else:
        predictor = open_engine(model, asked, row["dtype"], batch_size=row["batch"], samples=samples)
    if asked == "auto":
        note = f"chose {predictor.format}"
    if samples is not None:
        same = predictor.scores(images).argmax(axis=1) == model.predict_on_batch(images).argmax(axis=1)
        note = f"{note + ', ' if note else ''}same class as float32 for {same.sum()} of {len(same)} images of noise, "
        note += "random weights"
    return lambda: predictor.scores(images) is None, None
