import pkgutil
import re
import subprocess
import sys

import pytest

import keras_mixer
from keras_mixer import weights
from keras_mixer.models import VARIANTS
from keras_mixer.weights import find

# The sets that the official repository publishes.
OFFICIAL = {
    "imagenet1k": {"B_16", "L_16"},
    "imagenet21k": {"B_16", "L_16"},
    "sam": {"B_16", "B_32"},
    "gsam": {"B_16", "B_32", "S_16", "S_32", "S_8"},
}


def published():
    """The sets that have to be fetched."""
    return [entry for entry in weights.available() if entry.url]


@pytest.mark.parametrize(
    ("name", "hint"), [("mixer.h5", r"$"), ("mixer.hdf5", r"$"), ("mixer.weights.json", r" Keras.*model\.load_weights")]
)
def test_a_file_of_another_kind_is_told_which_there_are(name, hint):
    with pytest.raises(ValueError, match=rf"{name} is not a checkpoint: .*\.weights\.h5, \.keras\.{hint}"):
        keras_mixer.MixerNano(weights=name)


def test_the_names_of_sets_have_no_dot_by_which_a_file_is_known():
    assert not [entry.name for entry in weights.available() if "." in entry.name]


def test_the_official_sets_are_complete():
    files = {}
    for entry in published():
        match = re.fullmatch(r"https://storage\.googleapis\.com/mixer_models/(\w+)/Mixer-([SBLH]_\d+)\.npz", entry.url)
        if match:
            assert match[1] == entry.name
            assert entry.variant == "mixer_" + match[2].replace("_", "").lower()
            files.setdefault(match[1], set()).add(match[2])
    assert files == OFFICIAL


def test_every_entry_is_usable_and_says_where_it_comes_from():
    entries = published()
    assert len({entry.file_name for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.variant in VARIANTS
        assert entry.url.startswith("https://")
        assert entry.source
        assert entry.licence
        assert entry.preprocessing.image_size == (224, 224)
        # ImageNet-1k, ImageNet-21k, and the part of it that arXiv 2104.10972 keeps.
        assert entry.classes == (1_000 if "21k" not in entry.name else 11_221 if "miil" in entry.name else 21_843)
        assert (entry.preprocessing.mean, entry.preprocessing.std) == ((0, 1) if "miil" in entry.name else (0.5, 0.5))


def test_what_users_must_know_is_noted():
    assert all("broken" in entry.note for entry in weights.available() if entry.name == "gsam")
    # The hub's name claims a fine-tuning that did not happen.
    misnamed = [entry for entry in published() if "goog_in21k_ft_in1k" in entry.url]
    assert {entry.variant for entry in misnamed} == {"mixer_b16", "mixer_l16"}
    for entry in misnamed:
        assert entry.name == "imagenet1k_timm"
        assert "from scratch" in entry.note


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="imagenet1k, imagenet21k, sam, gsam"):
        find("mixer_b16", "imagenet")
    with pytest.raises(ValueError, match="mixer_b16"):
        find("mixer_h14", "imagenet21k")
    assert weights.available("mixer_h14") == []


def test_no_module_hides_a_public_name():
    """A lazily loaded name that is also a module's becomes the module once that is imported."""
    modules = {module.name for module in pkgutil.iter_modules(weights.__path__)}
    assert not modules & set(weights.__all__)


def test_listing_and_fetching_load_no_framework():
    script = (
        "import sys, keras_mixer\n"
        "keras_mixer.weights.available(), keras_mixer.weights.download('mixer_nano', 'cifar10')\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
