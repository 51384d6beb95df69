"""Files that are written again and again, beside what their reader has made of them in the meantime."""

import hashlib
import json
import logging
import pathlib
from collections.abc import Collection, Mapping

from keras_mixer.files import written_whole

RECORD = ".generated.json"  # sha256 of each file as it was last generated

_log = logging.getLogger(__name__)


def write_generated(folder: pathlib.Path, texts: Mapping[str, str], *, always: Collection[str] = ()) -> None:
    """Writes files, but leaves those alone that someone has edited since they were generated.

    What an edited file would have become goes to `FILE.new` beside it, with a warning that names it, unless that is
    what it was generated as before.

    Args:
        folder: Where they go.
        texts: The files' texts by their paths in it, in the order in which they are written.
        always: Those that are written in any case.
    """
    record = folder / RECORD
    before = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    now = {file: hashlib.sha256(text.encode()).hexdigest() for file, text in texts.items()}
    for file, text in texts.items():
        target, new = folder / file, (folder / file).with_name(f"{pathlib.PurePath(file).name}.new")
        if file in always or not target.exists() or _sha256(target) in (before.get(file), now[file]):
            _write(target, text)
            new.unlink(missing_ok=True)
        elif now[file] != before.get(file):
            _write(new, text)
            _log.warning(f"{target} has been edited and is left as it is. Take over what is new from {new}.")
    _write(record, json.dumps(now, indent=2) + "\n")


def _sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write(file: pathlib.Path, text: str) -> None:
    with written_whole(file) as partial:
        partial.write_bytes(text.encode())
