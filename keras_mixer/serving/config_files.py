"""TF Serving's own configuration files, as `keras-mixer export --serving` writes them."""

import os
import re
from pathlib import Path

from keras_mixer.serving.config import Batching, ModelConfig
from keras_mixer.serving.errors import INSTALL_STUBS, need

_QUOTED = r"""\"[^\"\n]*\"|'[^'\n]*'"""
_VALUE = rf"(\d+|true|false|{_QUOTED})"


def read_model_config(path: str | os.PathLike) -> list[ModelConfig]:
    """Reads a `models.config`: several models, their version policies and labels.

    A base path that does not exist here, such as a container's `/models/digits`, is looked for beside the file under
    its last parts: `models/digits`, then `digits`.

    Args:
        path: The file, in protobuf's text format (`ModelServerConfig`).

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not a model configuration.
        ImportError: If tensorflow-serving-api is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no model configuration {file}.")
    try:
        from tensorflow_serving.config import model_server_config_pb2
    except ImportError:
        raise need(INSTALL_STUBS, "tensorflow-serving-api", "Reading a model configuration") from None
    from google.protobuf import text_format

    proto = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), proto)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a model configuration: {error}") from None
    return [
        ModelConfig(
            _base_path(config.base_path, file.parent), config.name, _policy(config), dict(config.version_labels)
        )
        for config in proto.model_config_list.config
    ]


def _policy(config):
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return tuple(policy.specific.versions)
    if choice == "latest" and policy.latest.num_versions > 1:
        raise ValueError(f"{config.name}: of the policies with several versions, 'all' and 'specific' are served here.")
    return "all" if choice == "all" else "latest"


def _base_path(written: str, folder: Path) -> Path:
    path = Path(written)
    parts = [part for part in path.parts if part != path.anchor]
    beside = [folder.joinpath(*parts[-length:]) for length in range(len(parts), 0, -1)]
    return next((candidate for candidate in [path, *beside] if candidate.is_dir()), path)


def read_batching_parameters(path: str | os.PathLike) -> Batching:
    """Reads a `batching_parameters.txt`: TF Serving's `BatchingParameters` in protobuf's text format.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it holds an unknown or a contradictory setting.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no batching configuration {file}.")
    # No published package has this file's proto, and its grammar is one of names and plain values.
    text = re.sub(rf"({_QUOTED})|#[^\n]*", r"\1", file.read_text(encoding="utf-8"))
    values: dict[str, int | list[int]] = {}
    setting = re.compile(rf"\s*(\w+)\s*(?::?\s*\{{\s*value\s*:\s*{_VALUE}\s*\}}|:\s*{_VALUE})\s*,?;?")
    position = 0
    while text[position:].strip():
        match = setting.match(text, position)
        if match is None:
            raise ValueError(
                f"{file} must hold `name {{ value: number }}` settings, but has {text[position:].split()[0]!r}."
            )
        name, value = match[1], match[2] or match[3]
        if name in Batching.__dataclass_fields__:
            if not value.isdecimal():
                raise ValueError(f"{file}: {name} must be a whole number, but got {value}.")
            number = int(value)
            values[name] = [*values.get(name, []), number] if name == "allowed_batch_sizes" else number  # type: ignore[misc]
        elif name not in ("thread_pool_name", "pad_variable_length_inputs"):  # they mean nothing to this server
            raise ValueError(
                f"{file} has an unknown setting {name!r}: known are {list(Batching.__dataclass_fields__)}."
            )
        position = match.end()
    return Batching(**values)  # type: ignore[arg-type]
