"""What is done with a `.keras` file on the backend of Keras in this process: running and converting it."""

import logging
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from keras_mixer.artefacts.opening import FORMATS, KERAS_FILE, load_card
from keras_mixer.artefacts.predictor import Scores, in_batches, in_bfloat16, in_float32, keras_predictor, on_one_tensor

SAME_CLASSES = 0.95  # share of the calibration images; the classes of a good int8 file differ for 1 or 2 %

_log = logging.getLogger(__name__)


def loaded() -> str | None:
    """Returns the backend of Keras in this process, or None if Keras is not loaded."""
    return sys.modules["keras"].backend.backend() if "keras" in sys.modules else None


def scores_of(path: pathlib.Path, precision: str) -> Scores:
    """Opens a `.keras` file and returns its scores as a function of images, computed at this precision."""
    import keras

    model = on_one_tensor(keras.models.load_model(path, compile=False))
    model = in_bfloat16(model) if precision == "bfloat16" else in_float32(model)
    return _torch_scores(model) if keras.backend.backend() == "torch" else keras_predictor(model).scores


def _torch_scores(model) -> Scores:
    """Compiles a model for the number of images of its first call; later calls are divided or filled up to it."""
    import torch

    device = next(iter(model.parameters())).device
    sized: list[Scores] = []

    def any_number(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            if not sized:
                forward = _compiled_by_torch(model, torch.as_tensor(images).to(device))
                fixed = lambda images: forward(torch.as_tensor(images).to(device)).float().cpu().numpy()  # noqa: E731
                sized.append(in_batches(fixed, len(images)))
            return sized[0](images)

    return any_number


def _compiled_by_torch(model, images) -> Callable:
    """Compiles a model for images of this shape, or returns it as it is where PyTorch finds no compiler.

    `torch.export` first reduces the model to PyTorch's own operations. The compiler alone would follow Keras's Python
    code, which takes several times as long, and warns of its caches.
    """
    import torch
    import torch._inductor.config

    class Inference(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images, training=False)

    compiled = torch.compile(torch.export.export(Inference().eval(), (images,), strict=False).module())
    try:
        # On a CPU, weights become constants, laid out as matrix products read them.
        with torch._inductor.config.patch(freezing=images.device.type == "cpu"):
            compiled(images)
    except Exception as error:  # its errors share no public base class
        _log.warning("PyTorch cannot compile the model, which therefore runs as it is: %s", error)
        return Inference().eval()
    return compiled


def write(path: pathlib.Path, form: str, target: pathlib.Path, samples: np.ndarray | None) -> None:
    """Writes a `.keras` file in another format. Keras's backend must be TensorFlow."""
    import keras

    model = keras.models.load_model(path, compile=False)
    if samples is None and FORMATS[form].calibrated:
        samples = _images_of_the_card(path)
    FORMATS[form].write(model, target, None, samples)
    if samples is not None and FORMATS[form].calibrated:
        _check_classes(model, form, target, samples)


def _check_classes(model, form: str, target: pathlib.Path, samples: np.ndarray) -> None:
    """Deletes an int8 file that gives other classes than the model, and raises ValueError.

    OpenVINO's sums of int8 products overflow on CPUs without VNNI, for some models even with weights of 7 bits.
    """
    opened = FORMATS[form].opened(target)
    same = opened.scores(samples).argmax(axis=1) == np.asarray(model.predict_on_batch(samples)).argmax(axis=1)
    if same.mean() < SAME_CLASSES:
        for part in FORMATS[form].parts(target):
            part.unlink()
        raise ValueError(f"In {form}, only {same.mean():.0%} of {len(same)} images keep their class on this machine.")


def _images_of_the_card(path: pathlib.Path) -> np.ndarray:
    from keras_mixer.evaluation.samples import calibration_images

    if not KERAS_FILE.card_of(path).is_file():
        raise ValueError("int8 needs images to calibrate on, but the model has no card that names a dataset.")
    return calibration_images(load_card(path))
