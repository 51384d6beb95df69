"""Publishes a trained model on the Hugging Face hub: its weights, preprocessing and model card."""

import json
import pathlib
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts import keras_predictor
from keras_mixer.artefacts.saved_model import check_card_fits
from keras_mixer.card import ModelCard
from keras_mixer.dataset import DatasetSpec
from keras_mixer.evaluation import EvaluationSplit, measure, on_one_tensor
from keras_mixer.extras import require
from keras_mixer.hub import CONFIG, WEIGHTS, HubAddress, config_of
from keras_mixer.images import MAX_PIXELS

if TYPE_CHECKING:
    import keras

_README = """---
{data}
---

# {name}

An image classifier of {classes:,} classes, {parameters:,} parameters, for images of {height} x {width} pixels.

Accuracy: {accuracy}.

Licence: {licence}.

```python
keras_mixer.weights.load(model, "hf://{repository}")  # into a model of the same layers
```

`{weights}` holds the weights by their official names. `{config}` says how images are prepared, and names the classes.
"""


def push_to_hub(
    model: "keras.Model",
    card: ModelCard,
    address: str,
    *,
    dataset: DatasetSpec | None = None,
    limit: int | None = None,
    corrupt_limit: int = 0,
    max_pixels: int = MAX_PIXELS,
    licence: str = "unknown",
    private: bool = False,
) -> str:
    """Measures a model and uploads it to the Hugging Face hub in one commit.

    The commit contains `model.safetensors`, which `weights="hf://OWNER/REPO"` reads back; `config.json` in timm's
    layout; and the model card `README.md`, with the accuracy on the evaluation split. The token comes from HF_TOKEN or
    from `hf auth login`.

    Args:
        model: A trained functional model of one input and one output.
        card: Its class names, preprocessing and dataset.
        address: The repository, hf://OWNER/REPO or hf://OWNER/REPO@BRANCH. It is created if it does not exist.
        dataset: A split to measure on instead of the card's. Without either, the model card has no accuracy.
        limit: Number of images to measure on, from the start of the split; None takes all.
        corrupt_limit: Number of images of the dataset that may be unreadable. They are left out.
        max_pixels: Largest number of pixels (height x width) of an image of the dataset.
        licence: Licence of the weights as the hub names it, such as "apache-2.0"; "unknown" does not state one.
        private: Whether a new repository is private.

    Returns:
        The address of the repository's page.

    Raises:
        ValueError: If the address or the card does not fit, or the model is quantised.
        OSError: If the hub cannot be reached or refuses the upload.
        ImportError: If `huggingface_hub` is not installed.

    Example:
        >>> model, card = keras_mixer.data.load_model("runs/flowers")
        >>> keras_mixer.export.push_to_hub(model, card, "hf://me/flowers", licence="cc-by-4.0")
        'https://huggingface.co/me/flowers'
    """
    require("huggingface_hub", extra="hub", purpose=address)
    from huggingface_hub import EvalResult, ModelCardData
    from safetensors.numpy import save_file

    from keras_mixer.weights.reading.checkpoint import weight_values

    place = HubAddress.parse(address)
    if place.file is not None:
        raise ValueError(f"A model is pushed to a repository, hf://OWNER/REPO, but got {address!r}.")
    check_card_fits(on_one_tensor(model), card)
    values = {name: np.ascontiguousarray(array, "float32") for name, array in weight_values(model).items()}
    accuracy, results = "not measured", None
    if spec := dataset or card.dataset:
        split = EvaluationSplit(card, dataset, limit=limit, corrupt_limit=corrupt_limit, max_pixels=max_pixels)
        measured = measure({"keras": keras_predictor(model)}, split)["keras"]
        name = pathlib.Path(spec.name).name  # without paths of this machine
        accuracy = f"{100 * measured.top1:.2f} % on {measured.examples:,} images of {name}, split {spec.split}"
        results = [
            EvalResult("image-classification", name, name, "accuracy", measured.top1, dataset_split=str(spec.split))
        ]
    data = ModelCardData(
        model_name=card.name,
        license=licence,
        library_name="keras_mixer",
        pipeline_tag="image-classification",
        tags=["image-classification", "keras"],
        eval_results=results,
    )
    unknown = "unknown. Name it here and in `license` above before others use the weights"
    height, width = card.preprocessing.image_size
    page = _README.format(
        data=data.to_yaml().strip(),
        name=card.name,
        classes=len(card.class_names),
        parameters=model.count_params(),
        height=height,
        width=width,
        accuracy=accuracy,
        licence=unknown if licence == "unknown" else licence,
        repository=place.repository,
        weights=WEIGHTS,
        config=CONFIG,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        save_file(values, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(config_of(card), indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(page, encoding="utf-8")
        return place.upload(folder, f"Upload {card.name}", private)
