"""Two hundred seeded corruptions of `.npz` and `.safetensors`: a clear error and an untouched model, or a correct load.

Not of Keras's own formats, on whose damaged files the HDF5 library may hang.
"""

import io
import json
import pathlib
import traceback
import zipfile

import goldens
import numpy as np
import pytest

import keras_mixer
from keras_mixer import weights

PACKAGE = str(pathlib.Path(keras_mixer.__file__).parent)
CORRUPTIONS = 200


def flipped(rng, content):
    content = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        content[place] ^= int(rng.integers(1, 256))
    return bytes(content)


def flipped_in_the_directory(rng, content):
    """Flips bytes where they hurt: the names, sizes and offsets at the start and the end of the file."""
    content = bytearray(content)
    for place in rng.integers(0, 3000, rng.integers(1, 4)):
        content[place if rng.random() < 0.5 else -place - 1] ^= 1 << int(rng.integers(8))
    return bytes(content)


def cut(rng, content):
    return content[: rng.integers(0, len(content))]


def blanked(rng, content):
    start = rng.integers(0, len(content))
    return content[:start] + bytes(int(rng.integers(1, 500))) + content[start + 200 :]


def renamed_npz(rng, content):
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    names = source.namelist()
    chosen = names[rng.integers(len(names))]
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(misspelt(rng, name) if name == chosen else name, source.read(name))
    return target.getvalue()


def renamed_safetensors(rng, content):
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    chosen = sorted(header)[rng.integers(len(header))]
    header[misspelt(rng, chosen)] = header.pop(chosen)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def misspelt(rng, name):
    place = rng.integers(0, len(name) - 4)
    return name[:place] + chr(rng.integers(33, 126)) + name[place + 1 :]


def held_by_npz(content):
    """What a correct load gives: the file has check sums, so only the original values will do."""
    with np.load(goldens.TINY) as file:
        return dict(file)


def held_by_safetensors(content):
    """What a correct load gives: the format has no check sums, so the values that stand in the file."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    values = {
        name: np.frombuffer(content[8 + size :][slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
    }
    kernel = values["stem.proj.weight"].transpose(2, 3, 1, 0)
    return {"stem/kernel": kernel, "head/kernel": values["head.weight"].T, "head/bias": values["head.bias"]}


FORMATS = {
    "npz": (goldens.TINY, renamed_npz, held_by_npz),
    "safetensors": (goldens.LAYOUTS["timm"], renamed_safetensors, held_by_safetensors),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_random_corruptions(kind, tmp_path):
    original, rename, held = FORMATS[kind]
    content = original.read_bytes()
    path = tmp_path / f"corrupt.{kind}"
    model = goldens.mixer()
    rng = np.random.default_rng(20210504)
    before = goldens.snapshot(model)
    refused = 0
    for index in range(CORRUPTIONS):
        corrupt = (flipped, flipped_in_the_directory, cut, blanked, rename)[index % 5](rng, content)
        path.write_bytes(corrupt)
        error = refusal(model, path)
        if error is not None:
            refused += 1
            assert str(error).strip(), index
            # Raised by this package, not by a parser beneath it.
            assert traceback.extract_tb(error.__traceback__)[-1].filename.startswith(PACKAGE), (index, error)
            assert goldens.same(goldens.snapshot(model), before), index
        else:
            loaded = dict(zip(names(model), goldens.snapshot(model), strict=True))
            for name, values in held(corrupt).items():
                np.testing.assert_array_equal(loaded[name], values, err_msg=f"corruption {index}: {name}")
            model.set_weights(before)
    assert refused > CORRUPTIONS // 2


def refusal(model, path):
    """The error of a load, if it is of a kind that a caller expects; None if it loaded."""
    try:
        weights.load(model, path)
    except (ValueError, OSError) as error:
        return error
    return None


def names(model):
    leaves = {"gamma": "scale", "beta": "bias"}
    return ["/".join([*v.path.split("/")[:-1], leaves.get(v.name, v.name)]) for v in model.weights]
