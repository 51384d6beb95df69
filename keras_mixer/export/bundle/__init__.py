"""A folder that holds all that TF Serving, Triton and KServe need to serve a model: versions, configuration, manifests.

Its files are templates in `templates/`. To change what an export writes, edit them there.
"""

import json
import os
import pathlib
import re
import shutil
import string
from collections.abc import Mapping, Sequence

from keras_mixer import wire
from keras_mixer.artefacts import load_card
from keras_mixer.artefacts.onnx import ONNX
from keras_mixer.artefacts.opening import fingerprint
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.export.report import REPORT_FILE
from keras_mixer.files import scratch_folder, written_whole

IMAGE = "tensorflow/serving:2.20.0"
CONFIG = "models.config"
TEMPLATES = pathlib.Path(__file__).parent / "templates"
_RECORD_OF_0_1 = ".generated.json"  # version 0.1 noted here which files an operator had edited


def write_serving_bundle(base: str | os.PathLike, bundle: str | os.PathLike) -> pathlib.Path:
    """Writes a TF Serving bundle of the newest versions of a model, or brings one up to date.

    The newest version gets the label `canary`. In a bundle that exists, the other labels stay where its operator has
    put them. In a new bundle, the version before the newest, or the only version, gets the label `stable`. Versions in
    the bundle stay. A version that has just lost its label is still served, because requests to it may be on their way.

    Every file is written anew, except that the version labels in an older `models.config` stay. That file comes last,
    because a server may be reading the bundle.

    Args:
        base: The model's folder of numbered SavedModels, as `export_saved_model` writes it. Its name is the model's.
        bundle: The folder to write.

    Returns:
        `bundle`.

    Raises:
        ValueError: If `base` holds no version, its name cannot be a model's, a label of the bundle names a version that
            does not exist, or a version in the bundle is another model than the version of this number in `base`.

    Example:
        >>> keras_mixer.export.write_serving_bundle("saved_models/digits", "saved_models/digits-serving")
    """
    base, bundle = pathlib.Path(base), pathlib.Path(bundle)
    name = wire.check_model_name(base.name)
    found = list(wire.versions_in(base)) if base.is_dir() else []
    if not found:
        raise ValueError(f"{base} holds no version of a SavedModel: export one first.")
    models, config = bundle / "models" / name, bundle / CONFIG
    given = labels_in(config.read_text(encoding="utf-8")) if config.is_file() else {}
    labels = labels_of(found, given)
    for label, version in labels.items():
        if not any((folder / str(version)).is_dir() for folder in (base, models)):
            raise ValueError(f"{config} labels version {version} {label!r}, but there is no such version: correct it.")
    for version in found:
        _check_same(base / str(version), models / str(version))
    for version in sorted(set(labels.values())):
        _copy(base / str(version), models / str(version))
    served = sorted({*labels.values(), *(version for version in given.values() if (models / str(version)).is_dir())})
    values = _values(name, labels, served, models)
    triton = bundle / "triton"
    for version in served:
        _copy(models / str(version), triton / name / str(version) / "model.savedmodel")
    has_onnx = _copy_onnx(base, models / str(labels[wire.CANARY]), triton / f"{name}_onnx")
    templates = [path for path in TEMPLATES.rglob("*") if path.is_file()]
    for path in sorted(templates, key=lambda path: path.name == CONFIG):  # `models.config` last
        if path.parent.name.endswith("_onnx") and not has_onnx:
            continue
        target = string.Template(str(path.relative_to(TEMPLATES))).substitute(values)
        with written_whole(bundle / target) as partial:
            text = string.Template(path.read_text(encoding="utf-8")).substitute(values)
            partial.write_text(text, encoding="utf-8")
    (bundle / _RECORD_OF_0_1).unlink(missing_ok=True)
    return bundle


def labels_of(versions: Sequence[int], given: Mapping[str, int]) -> dict[str, int]:
    """Labels the newest version `canary` and keeps every other label, because only an operator moves `stable`.

    If there is no `stable` yet, it is the version before the newest. A single version is both.
    """
    return {wire.STABLE: versions[-2:][0], **given, wire.CANARY: versions[-1]}


def labels_in(models_config: str) -> dict[str, int]:
    """Reads the version labels from the text of a `models.config` of one model, which may have been edited by hand."""
    text = re.sub(r"#[^\n]*", "", models_config)
    labels = {}
    for entry in re.findall(r"version_labels\s*:?\s*\{([^}]*)\}", text):
        key, value = re.search(r"""key\s*:\s*["'](\w+)["']""", entry), re.search(r"value\s*:\s*(\d+)", entry)
        if key and value:
            labels[key[1]] = int(value[1])
    return labels


def dns_label(name: str) -> str:
    """Returns the name as Kubernetes takes it: lower-case letters, digits and hyphens, a letter first (RFC 1035)."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return label if label[0].isalpha() else f"m-{label}"


def _values(name: str, labels: Mapping[str, int], served: Sequence[int], models: pathlib.Path) -> dict[str, object]:
    """Returns what the templates need."""
    newest = labels[wire.CANARY]
    card = ModelCard.load(models / str(newest) / "assets" / CARD_FILE)
    files = [file for version in served for file in (models / str(version)).rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) // 2**20
    height, width, channels = card.preprocessing.input_shape
    entry = '    version_labels {{\n      key: "{}"\n      value: {}\n    }}'
    return {
        "name": name,
        "dns_name": dns_label(name),
        "model_path": wire.model_path(name),
        "image": IMAGE,
        "image_name": f"{dns_label(name)}-serving:{newest}",
        "newest": newest,
        "versions": ", ".join(map(str, served)),
        "labels": ", ".join(f"`{label}` is version {version}" for label, version in labels.items()),
        "served_versions": "\n".join(f"        versions: {version}" for version in served),
        "version_labels": "\n".join(entry.format(label, version) for label, version in labels.items()),
        "rest": wire.REST_PORT,
        "grpc": wire.GRPC_PORT,
        "metrics_path": wire.METRICS_PATH,
        "memory_request": 512 + 3 * megabytes,
        "memory_limit": 1024 + 6 * megabytes,
        "height": height,
        "width": width,
        "channels": channels,
        "classes": len(card.class_names),
        "label_lines": "\n".join(" ".join(label.split()) for label in card.class_names),
    }


def _copy(version: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a version unless it is there, by hard links if the file system has them: a SavedModel never changes."""
    if target.exists():
        return
    with scratch_folder(target.parent) as scratch:
        shutil.copytree(version, scratch / version.name, copy_function=_link_or_copy)
        (scratch / version.name).rename(target)


def _check_same(version: pathlib.Path, target: pathlib.Path) -> None:
    """Raises a ValueError if `target` is a copy of an earlier version of the same number, whose folder was removed."""
    if target.is_dir() and fingerprint(version) != fingerprint(target):
        raise ValueError(
            f"{target} is another model than {version}, and a server would not notice that a version has changed: "
            "remove the folder of the bundle, and export again."
        )


def _copy_onnx(base: pathlib.Path, newest: pathlib.Path, folder: pathlib.Path) -> bool:
    """Copies an ONNX file of the newest version into Triton's `folder`. Returns whether there is one."""
    shutil.rmtree(folder, ignore_errors=True)
    file = base / ONNX.file
    if not file.is_file() or load_card(file).for_others() != load_card(newest) or _is_older(file, newest):
        return False
    with scratch_folder(folder) as scratch:
        complete = scratch / newest.name
        complete.mkdir()
        for part in ONNX.parts(file):
            shutil.copy2(part, complete / part.name)
        complete.rename(folder / newest.name)
    return True


def _is_older(file: pathlib.Path, newest: pathlib.Path) -> bool:
    """Returns whether the export that wrote the version `newest`, by its report, did not write `file`."""
    report = file.with_name(REPORT_FILE)
    rows = json.loads(report.read_text(encoding="utf-8"))["rows"] if report.is_file() else []
    written = {row["file"] for row in rows}
    return newest.name in written and file.name not in written


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
