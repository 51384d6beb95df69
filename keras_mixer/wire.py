"""The names, ports, addresses and version folders of TensorFlow Serving that exporting and serving share."""

import pathlib
import re
from collections.abc import Mapping

from keras_mixer.extras import installed

GRPC_PORT, REST_PORT = 8500, 8501
MAX_BODY_BYTES = 32 * 2**20  # default limit of the embedded server
METRICS_PATH = "/monitoring/prometheus/metrics"

DEFAULT_SIGNATURE, BYTES_SIGNATURE, FEATURES_SIGNATURE = "serving_default", "serving_bytes", "features"
IMAGES, IMAGE_BYTES = "images", "image_bytes"  # the inputs of these signatures
SCORES, LABELS, FEATURES = "scores", "labels", "features"  # outputs

SAVED_MODEL_FILE = "saved_model.pb"
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_VERSION = 2**63 - 1
STABLE, CANARY = "stable", "canary"  # version labels

# The package asks for the full `tensorflow`, which would replace `tensorflow-cpu`. Its stubs work with either.
INSTALL_STUBS = "pip install --no-deps tensorflow-serving-api"


def stubs_installed() -> bool:
    """Returns whether the packages for serving gRPC are installed."""
    return installed("grpc", "tensorflow_serving")


def model_path(name: str) -> str:
    """Returns the path of a model in a REST address."""
    return f"/v1/models/{name}"


def metadata(name: str, version: int, signature_defs: Mapping) -> dict:
    """Returns TF Serving's `/metadata` document of a model, given its SignatureDef protos by name."""
    from google.protobuf import json_format

    signatures = {
        key: json_format.MessageToDict(
            proto, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for key, proto in signature_defs.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def check_base_path(path: pathlib.Path) -> None:
    """Checks that a folder can be served: that it holds numbered versions, each a SavedModel.

    Raises:
        FileNotFoundError: If it does not. The message says what the path is, and what to serve instead.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no folder {path}: name a model's base path.")
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is a file: export the model, then serve the folder that holds its versions.")
    if versions_in(path):
        return
    if (path / SAVED_MODEL_FILE).is_file():
        number = path.resolve().name
        where = (
            f"serve its parent, {path.parent}"
            if number.isdigit()
            else "put it into a folder named 1, and serve the folder above"
        )
        raise FileNotFoundError(f"{path} is one version of a model: {where}.")
    if (path / "model.keras").is_file():
        raise FileNotFoundError(f"{path} is a run folder: export it with `keras-mixer export {path}`, and serve that.")
    models = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and versions_in(entry)]
    if models:
        raise FileNotFoundError(f"{path} is not a model, but contains models: serve {', '.join(map(str, models[:5]))}.")
    raise FileNotFoundError(f"{path} has no versions: expected numbered folders, each with a {SAVED_MODEL_FILE}.")


def check_model_name(name: str) -> str:
    """Returns `name` if it is valid as a folder, in an address and as a Kubernetes name.

    Raises:
        ValueError: If it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,48}[A-Za-z0-9])?", name):
        raise ValueError(
            f"A model's name is 1 to 50 letters, digits, '_', '.' and '-', and begins and ends with a letter or digit, "
            f"but got {name!r}: give another with --name."
        )
    return name


def numbered(base: pathlib.Path) -> dict[int, pathlib.Path]:
    """Returns the entries of a model's base folder that are named by a number, in rising order.

    A number beyond 64 bits is not a version, and TF Serving ignores it too.
    """
    entries = {int(entry.name): entry for entry in base.iterdir() if entry.name.isascii() and entry.name.isdigit()}
    return {number: entries[number] for number in sorted(entries) if number <= MAX_VERSION}


def versions_in(base: pathlib.Path) -> dict[int, pathlib.Path]:
    """Returns the SavedModels in a model's base folder, by number in rising order.

    Raises:
        OSError: If the folder cannot be read.
    """
    return {number: path for number, path in numbered(base).items() if (path / SAVED_MODEL_FILE).is_file()}
