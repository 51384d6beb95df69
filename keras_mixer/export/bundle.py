"""A folder that holds all that TF Serving needs to serve a model: versions, configuration, manifests, instructions."""

import os
import pathlib
import shutil

from keras_mixer.card import CARD_FILE
from keras_mixer.data import ModelCard
from keras_mixer.export.bundle_readme import bundle_readme
from keras_mixer.export.files import scratch_folder, versions
from keras_mixer.export.generated_files import write_generated
from keras_mixer.export.manifests import compose, dockerfile, image_name, kubernetes
from keras_mixer.export.serving_files import (
    batching_parameters,
    check_model_name,
    labels_in,
    labels_of,
    models_config,
    monitoring_config,
)


def write_serving_bundle(base: str | os.PathLike, bundle: str | os.PathLike) -> pathlib.Path:
    """Writes, or brings up to date, a TF Serving bundle of the newest versions of a model.

    The newest version is labelled `canary`. The other labels of a bundle stay where its operator has put them; a new
    bundle labels the version before the newest `stable`, or the only one. Versions that the bundle holds already stay,
    and those that had a label until now are served once more, for requests to them may be on their way. The
    configuration is written after the versions it names are in place, for a server may be reading the bundle.

    `models.config`, its labels apart, and `README.md` are written anew. Any other file that has been edited stays; what
    it would have become goes to `FILE.new` beside it, with a warning that names it.

    Args:
        base: The model's folder of numbered SavedModels, as `export_saved_model` writes it. Its name is the model's.
        bundle: The folder to write.

    Returns:
        `bundle`.

    Raises:
        ValueError: If `base` holds no version, its name cannot be a model's, or a label of the bundle names a version
            that is nowhere.
        ImportError: If PyYAML is not installed.
    """
    try:
        import yaml  # noqa: F401
    except ImportError as error:
        raise ImportError("Writing manifests needs PyYAML: pip install pyyaml") from error
    base, bundle = pathlib.Path(base), pathlib.Path(bundle)
    name = check_model_name(base.name)
    found = versions(base) if base.is_dir() else []
    if not found:
        raise ValueError(f"{base} holds no version of a SavedModel: export one first.")
    models, config = bundle / "models" / name, bundle / "models.config"
    given = labels_in(config.read_text(encoding="utf-8")) if config.is_file() else {}
    labels = labels_of(found, given)
    for label, version in labels.items():
        if not any((folder / str(version)).is_dir() for folder in (base, models)):
            raise ValueError(f"{config} labels version {version} {label!r}, but no such version is there: mend it.")
    for version in sorted(set(labels.values())):
        _copy_version(base / str(version), models)
    served = sorted({*labels.values(), *(version for version in given.values() if (models / str(version)).is_dir())})

    newest = models / str(labels["canary"])
    card = ModelCard.load(newest / "assets" / CARD_FILE)
    files = [file for version in served for file in (models / str(version)).rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) // 2**20
    image = image_name(name, labels["canary"])
    texts = {
        "batching_parameters.txt": batching_parameters(),
        "monitoring.config": monitoring_config(),
        "Dockerfile": dockerfile(),
        "README.md": bundle_readme(name, labels, served, image, card.preprocessing.input_shape),
        "compose.yaml": _as_yaml(compose(name)),
        "models.config": models_config(name, labels, served),
    }
    for file, manifest in kubernetes(name, labels["canary"], megabytes).items():
        texts[f"kubernetes/{file}"] = _as_yaml(manifest)
    write_generated(bundle, texts, always=("models.config", "README.md"))
    return bundle


def _as_yaml(value: dict) -> str:
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes out what is used twice: by an anchor, whoever edits it in one place would edit it in both."""

        def ignore_aliases(self, data):
            return True

    return yaml.dump(value, Dumper=Plain, sort_keys=False)


def _copy_version(version: pathlib.Path, models: pathlib.Path) -> None:
    """Copies a version unless it is there, by hard links where the file system has them: a SavedModel never changes."""
    target = models / version.name
    if target.exists():
        return
    with scratch_folder(models) as scratch:
        shutil.copytree(version, scratch / version.name, copy_function=_link_or_copy)
        (scratch / version.name).rename(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
