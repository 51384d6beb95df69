"""Opens a `.keras` file on the backend that Keras has in this process, or converts it to another format."""

import logging
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from keras_mixer.artefacts.opening import FORMATS, load_card
from keras_mixer.artefacts.predictor import (
    Predictor,
    Scores,
    in_batches,
    in_bfloat16,
    in_float32,
    keras_predictor,
    on_one_tensor,
)

SAME_CLASSES = 0.95  # share of the calibration images; the classes of a good int8 file differ for 1 or 2 %
_CHECKED_AT_ONCE = 32  # images

_log = logging.getLogger(__name__)


def loaded_backend() -> str | None:
    """Returns the backend of Keras in this process, or None if Keras is not loaded."""
    return sys.modules["keras"].backend.backend() if "keras" in sys.modules else None


def on_accelerator(tensor) -> bool:
    """Returns whether a tensor of any backend is not in a CPU's memory."""
    return "cpu" not in str(tensor.device).lower()  # such as "cuda:0", "TFRT_CPU_0" and "/job:localhost/.../GPU:0"


def predictor_of(path: pathlib.Path, precision: str) -> Predictor:
    """Opens a `.keras` file, to be computed at this precision."""
    import keras

    model = on_one_tensor(keras.models.load_model(path, compile=False))
    model = in_bfloat16(model) if precision == "bfloat16" else in_float32(model)
    backend = keras.backend.backend()
    scores = _torch_scores(model) if backend == "torch" else keras_predictor(model).scores
    return Predictor(backend, scores, path, accelerated=on_accelerator(keras.ops.ones(1)))


def _torch_scores(model) -> Scores:
    """Compiles a model for the number of images of the largest call. Smaller calls are filled up to it."""
    import torch

    device = next(iter(model.parameters())).device
    forward: Callable
    batch: int | None = 0

    def scores(images: np.ndarray) -> np.ndarray:
        nonlocal forward, batch
        with torch.no_grad():
            if batch is not None and len(images) > batch:
                forward, batch = _compiled_by_torch(model, torch.as_tensor(images).to(device))
            compute = lambda images: forward(torch.as_tensor(images).to(device)).float().cpu().numpy()  # noqa: E731
            return in_batches(compute, batch)(images)

    return scores


def _compiled_by_torch(model, images) -> tuple[Callable, int | None]:
    """Compiles a model for images of this shape.

    `torch.export` first reduces the model to PyTorch's own operations. The compiler alone would follow Keras's Python
    code, which takes several times as long, and warns of its caches.

    Returns:
        The compiled model and its number of images per call. If PyTorch cannot compile it, the model as it is, and None
        because it takes any number.
    """
    import torch
    import torch._inductor.config

    class Inference(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images, training=False)

    try:
        compiled = torch.compile(torch.export.export(Inference().eval(), (images,), strict=False).module())
        # On a CPU, weights become constants, laid out as matrix products read them.
        with torch._inductor.config.patch(freezing=images.device.type == "cpu"):
            compiled(images)
    except Exception as error:  # the errors of PyTorch's compilers share no public base class
        _log.warning("PyTorch cannot compile the model, which therefore runs as it is: %s", error)
        return Inference().eval(), None
    return compiled, len(images)


def write(path: pathlib.Path, form: str, target: pathlib.Path, samples: np.ndarray | None) -> str | None:
    """Writes a `.keras` file in another format. Keras's backend must be TensorFlow.

    Returns:
        None; or why an int8 file must not be used on this machine.
    """
    import keras

    from keras_mixer.evaluation.samples import calibration_images

    model = keras.models.load_model(path, compile=False)
    if not FORMATS[form].calibrated:
        FORMATS[form].write(model, target, None, None)
        return None
    images = calibration_images(load_card(path)) if samples is None else samples
    FORMATS[form].write(model, target, None, images)
    # OpenVINO's sums of int8 products overflow on CPUs without VNNI, for some models even with weights of 7 bits.
    before, after = (
        in_batches(opened.scores, _CHECKED_AT_ONCE)(images).argmax(axis=1)
        for opened in (keras_predictor(model), FORMATS[form].opened(target))
    )
    same = np.mean(before == after)
    if same >= SAME_CLASSES:
        return None
    return (
        f"In {form}, only {same:.0%} of {len(before)} images keep their class on this machine: take another engine or "
        "precision, or give `samples` that are more typical of the model's inputs."
    )
