"""The configuration files of TF Serving, in protobuf's text format."""

import re
from collections.abc import Collection, Mapping, Sequence

MODELS_FOLDER = "/models"  # where the container finds the model base paths
METRICS_PATH = "/monitoring/prometheus/metrics"
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


def check_model_name(name: str) -> str:
    """Returns `name` if it can be a folder, part of an address and a Kubernetes name.

    Raises:
        ValueError: If it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,48}[A-Za-z0-9])?", name):
        raise ValueError(
            f"A model's name is 1 to 50 letters, digits, '_', '.' and '-', a letter or digit at both ends, but got "
            f"{name!r}: give another with --name."
        )
    return name


def labels_of(versions: Sequence[int], given: Mapping[str, int]) -> dict[str, int]:
    """Labels the newest version `canary` and keeps every other label: an operator moves `stable`, no export does.

    Without a `stable` yet, it is the version before the newest; a single version is both.
    """
    return {"stable": versions[-2:][0], **given, "canary": versions[-1]}


def labels_in(models_config: str) -> dict[str, int]:
    """The version labels in the text of a `models.config` of one model, written here and perhaps edited by hand."""
    text = re.sub(r"#[^\n]*", "", models_config)
    labels = {}
    for entry in re.findall(r"version_labels\s*:?\s*\{([^}]*)\}", text):
        key, value = re.search(r"""key\s*:\s*["'](\w+)["']""", entry), re.search(r"value\s*:\s*(\d+)", entry)
        if key and value:
            labels[key[1]] = int(value[1])
    return labels


def models_config(name: str, labels: Mapping[str, int], served: Collection[int] = ()) -> str:
    """The text of `models.config` (`ModelServerConfig`): one model, the versions that have a label, and `served`."""
    versions = "".join(f"        versions: {version}\n" for version in sorted({*labels.values(), *served}))
    entries = "".join(
        f'    version_labels {{\n      key: "{label}"\n      value: {version}\n    }}\n'
        for label, version in labels.items()
    )
    return (
        "model_config_list {\n"
        "  config {\n"
        f'    name: "{name}"\n'
        f'    base_path: "{MODELS_FOLDER}/{name}"\n'
        '    model_platform: "tensorflow"\n'
        "    model_version_policy {\n"
        "      specific {\n"
        f"{versions}"
        "      }\n"
        "    }\n"
        f"{entries}"
        "  }\n"
        "}\n"
    )


def batching_parameters(threads: int = 2) -> str:
    """The text of `batching_parameters.txt` (`BatchingParameters`).

    A request waits at most 2 ms for company. Batches are filled up to one of a few sizes, the last of which is the
    largest, as TF Serving requires.
    """
    return (
        f"max_batch_size {{ value: {BATCH_SIZES[-1]} }}\n"
        "batch_timeout_micros { value: 2000 }\n"
        "max_enqueued_batches { value: 100 }\n"
        f"num_batch_threads {{ value: {threads} }}\n"
    ) + "".join(f"allowed_batch_sizes: {size}\n" for size in BATCH_SIZES)


def monitoring_config() -> str:
    """The text of `monitoring.config` (`MonitoringConfig`): Prometheus metrics on the REST port."""
    return f'prometheus_config {{\n  enable: true\n  path: "{METRICS_PATH}"\n}}\n'
