"""Downloads from and uploads to the Hugging Face hub with huggingface_hub, which handles its cache and token."""

import contextlib
import dataclasses
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from keras_mixer.card import ModelCard
from keras_mixer.extras import require
from keras_mixer.preprocessing import INTERPOLATIONS, Preprocessing

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_CLIENT = "huggingface_hub"
_log = logging.getLogger(__name__)


def is_address(source) -> bool:
    """Returns whether `source` is an address on the hub, `hf://...`."""
    return isinstance(source, str) and source.startswith("hf://")


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """An address on the hub. Without a file it means the only file of weights, without a revision the newest."""

    repository: str
    file: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `hf://OWNER/REPO[@REVISION][/FILE]`; raises ValueError if `text` is not of that form."""
        match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.*))?", text)
        if match is None:
            raise ValueError(
                f"Weights on the Hugging Face hub are hf://OWNER/REPO[@REVISION][/FILE], but got {text!r}."
            )
        return cls(match[1], match[3] or None, match[2])

    def download(self, suffixes: Sequence[str]) -> Path:
        """Returns the file of weights in the client's cache. Downloads it if it is not there or has changed.

        Args:
            suffixes: Suffixes of the files that can be read.

        Raises:
            ValueError: If the address does not name a file and the repository does not have exactly one.
            OSError: If the repository or file does not exist, is not accessible, or cannot be downloaded.
            ImportError: If the client is not installed.
        """
        with _errors_named(self):
            from huggingface_hub.errors import RemoteEntryNotFoundError

            if self.file:
                return self._fetch(self.file)
            with contextlib.suppress(RemoteEntryNotFoundError):
                return self._fetch(WEIGHTS)
            files = _client().list_repo_files(self.repository, revision=self.revision)
            usable = [name for name in files if name.endswith(tuple(suffixes))]
            if len(usable) == 1:
                return self._fetch(usable[0])
        listed = f"several files of weights: name one, {', '.join(f'hf://{self.repository}/{name}' for name in usable)}"
        none = f"no file that ends in {', '.join(suffixes)}. It has {', '.join(files) or 'none'}"
        raise ValueError(f"hf://{self.repository} has {listed if usable else none}.")

    def config(self) -> dict[str, Any]:
        """Returns the content of the repository's `config.json`; empty if there is none."""
        with _errors_named(self):
            from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

            try:
                path = self._fetch(CONFIG)
            except RemoteEntryNotFoundError:
                return {}
            except LocalEntryNotFoundError:
                _log.warning(
                    "hf://%s: %s is not in the cache, so its preprocessing is not known.", self.repository, CONFIG
                )
                return {}
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            # In timm's older files, all of it lies on one level.
            return {**config, **config.get("pretrained_cfg", {})}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{CONFIG} of hf://{self.repository} is not in timm's layout: {error}") from error

    def cached(self) -> Path | None:
        """Returns the file in the client's cache without asking the hub; None if it is not there."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, self.file or WEIGHTS, revision=self.revision)
        return Path(path) if isinstance(path, str) else None

    def upload(self, folder: Path, message: str, private: bool) -> str:
        """Uploads the files of a folder in one commit. Creates the repository if needed. Returns its page's address."""
        with _errors_named(self):
            from huggingface_hub import CommitOperationAdd

            client = _client()
            client.create_repo(self.repository, private=private, exist_ok=True)
            files = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
            client.create_commit(self.repository, files, commit_message=message, revision=self.revision)
        return f"{client.endpoint}/{self.repository}"

    def _fetch(self, name: str) -> Path:
        return Path(_client().hf_hub_download(self.repository, name, revision=self.revision))


def digest_in_name(path: Path) -> str | None:
    """Returns the sha256 that the client's cache uses as the name of a large file; None for other files."""
    name = os.path.basename(os.path.realpath(path))
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def preprocessing_in(config: dict[str, Any], usual: Preprocessing) -> Preprocessing:
    """Returns the preprocessing in a `config.json` of timm's layout. Missing values are taken from `usual`."""
    channels, *size = config.get("input_size") or (usual.channels, *usual.image_size)
    share = config.get("crop_pct") or usual.crop_share
    mode = {"center": "crop", "squash": "direct" if share == 1 else "squash"}
    names = {"lanczos": "lanczos3", **{name: name for name in INTERPOLATIONS}}
    scale = {name: _joined(config[name]) for name in ("mean", "std") if name in config}
    return dataclasses.replace(
        usual,
        image_size=tuple(size),
        channels=channels,
        resize=mode.get(config.get("crop_mode", ""), usual.resize),
        interpolation=names.get(config.get("interpolation", ""), usual.interpolation),
        crop_share=share,
        **scale,
    )


def _joined(values) -> float | tuple[float, ...]:
    """Returns one number if all channels have the same value, otherwise one per channel."""
    numbers = tuple(map(float, values if isinstance(values, list) else [values]))
    return numbers[0] if len(set(numbers)) == 1 else numbers


def config_of(card: ModelCard) -> dict[str, Any]:
    """Returns the `config.json` of a trained model in timm's layout, which `preprocessing_in` reads back."""
    wanted = card.preprocessing
    direct = wanted.resize == "direct"

    def per_channel(value) -> list[float]:
        return list(value) if isinstance(value, tuple) else [value] * wanted.channels

    names = {"num_classes": len(card.class_names), "label_names": list(card.class_names)}
    pretrained = {
        "input_size": [wanted.channels, *wanted.image_size],
        "mean": per_channel(wanted.mean),
        "std": per_channel(wanted.std),
        "interpolation": wanted.interpolation.replace("lanczos3", "lanczos"),
        "crop_pct": 1.0 if direct else wanted.crop_share,
        "crop_mode": "center" if wanted.resize == "crop" else "squash",
    }
    return {"architecture": card.name, **names, "pretrained_cfg": {**pretrained, **names}}


def _client():
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="keras_mixer")


@contextlib.contextmanager
def _errors_named(address: HubAddress) -> Iterator[None]:
    """Checks that the client is there, and turns its errors into an OSError of one line that says what to do."""
    require(_CLIENT, extra="hub", purpose=f"hf://{address.repository}")
    from huggingface_hub import errors

    where, revision = f"hf://{address.repository}", address.revision or "main"
    allowed = "set HF_TOKEN to a token that may, or run `hf auth login`"
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(f"{where} is gated: ask for access on its page, then {allowed}.") from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{where} has no revision {revision!r}.") from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        raise OSError(
            f"{address.file or WEIGHTS} of {where} is not in the cache, and the hub cannot be reached ({_line(cause)})."
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(f"{where} has no file {address.file!r} in revision {revision!r}.") from error
    except (ValueError, ImportError):
        raise
    except Exception as error:  # of the client and of the library that it transfers by
        cause = (isinstance(error, RuntimeError) and error.__cause__) or error  # an upload hides its reason
        status = getattr(getattr(cause, "response", None), "status_code", None)
        # The hub does not tell strangers whether a repository exists.
        if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
            message = f"{where} does not exist, or is not yours to use: check the name, or {allowed}."
            raise FileNotFoundError(message) from error
        hint = f" To be allowed, {allowed}." if status == 403 else ""
        raise OSError(f"The hub refused or broke off a transfer with {where}: {_line(cause)}.{hint}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
