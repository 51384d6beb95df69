"""The embedded dataset: scikit-learn's handwritten digits as a TFDS dataset. Nothing is downloaded."""

import contextlib
import io
import os
import pathlib

import tensorflow_datasets as tfds

from keras_mixer.data.sources.embedded import CLASSES, embedded_digits
from keras_mixer.files import scratch_folder


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8 x 8 pixels in 17 grey levels, by 13 writers.

    scikit-learn bundles them. They are the test set of the UCI collection "Optical Recognition of Handwritten Digits".
    Here they are shuffled once and for all: 1,437 are for training and 360 for testing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 - TFDS reads it as a class attribute
    name = "digits"

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8 x 8 pixels, bundled with scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        images, labels, splits = embedded_digits()
        return {name: self._generate_examples(images, labels, numbers) for name, numbers in splits.items()}

    def _generate_examples(self, images, labels, indices):
        for index in indices:
            yield int(index), {"image": images[index], "label": int(labels[index])}


def prepared_digits(data_dir: str | None = None) -> Digits:
    """Returns the builder of the digits. On first use it writes them to `data_dir`, by default TFDS's own folder.

    Several processes may call this at the same time. Each prepares its own copy, and the first one moves it into place.
    """
    builder = Digits(data_dir=data_dir)
    if builder.is_prepared():
        return builder
    target = pathlib.Path(builder.data_dir)  # <data_dir>/digits/<version>
    with scratch_folder(target.parent) as scratch:
        own = Digits(data_dir=str(scratch))
        # No progress bars from TFDS, because this takes a second.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            own.download_and_prepare()
        try:
            os.rename(own.data_dir, target)
        except OSError:
            if not Digits(data_dir=data_dir).is_prepared():  # otherwise another process was first
                raise
    return Digits(data_dir=data_dir)
