"""Sources from TensorFlow Datasets. They do not decode the images."""

import contextlib
import copy
import dataclasses
import functools
import os
import sys
from typing import NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow.python.util import deprecation

from keras_mixer.data.sources.base import Source, no_split
from keras_mixer.data.sources.digits import prepared_digits
from keras_mixer.dataset import DatasetSpec

FILES_AT_ONCE = 16


class _File(NamedTuple):
    """A file of a split."""

    name: str  # without the folder
    split: str
    before: int  # number of examples in earlier splits
    first: int  # index of the file's first example, counted over all splits


class TfdsSource(Source):
    """A split of a TFDS dataset that has one image and one class label per example."""

    def __init__(self, spec: DatasetSpec):
        self.builder = prepared(spec)
        features = self.builder.info.features
        self._image_key, self._label_key = _keys(spec, self.builder.info)
        shape = features[self._image_key].shape
        super().__init__(
            spec,
            class_names=tuple(features[self._label_key].names),
            image_shape=None if None in shape else tuple(shape),
        )
        splits = self.builder.info.splits
        if splits:
            try:
                splits[spec.split]
            except (KeyError, ValueError) as error:
                raise no_split(spec, splits) from error
        self._files = _files(splits, spec.split) if splits else []
        if not self._files and splits and splits.total_num_examples:
            raise ValueError(f"The split {spec.split!r} of {spec.name} is empty.")

    @functools.cached_property
    def num_examples(self) -> int:
        splits = self.builder.info.splits
        if splits and splits[self.spec.split].num_examples:
            return splits[self.spec.split].num_examples
        # Some datasets do not record their sizes.
        return int(self.examples().reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))

    def examples(self) -> tf.data.Dataset:
        return self._read(shuffle_files=False)

    def shuffled(self, seed: tf.Tensor) -> tf.data.Dataset:
        # By default TFDS also reads sixteen files at a time.
        return self._read(
            shuffle_files=True, shuffle_seed=seed, interleave_cycle_length=FILES_AT_ONCE, enable_ordering_guard=False
        )

    def location(self, index: int) -> str:
        split, before = self.spec.split, 0
        for file in self._files:
            if file.first <= index:
                split, before = file.split, file.before
        return f"example {index - before} of {self.spec.name}, split {split}"

    def _read(self, shuffle_files: bool, **options) -> tf.data.Dataset:
        wanted = {self._image_key: True, self._label_key: True}
        with deprecation.silence():  # TFDS counts examples with a deprecated function
            records = self.builder.as_dataset(
                split=self.spec.split,
                decoders=tfds.decode.PartialDecoding(wanted, decoders={self._image_key: tfds.decode.SkipDecoding()}),
                read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=True, **options),
                shuffle_files=shuffle_files,
            )

        @tf.autograph.experimental.do_not_convert
        def example(record):
            return {
                "image": record[self._image_key],
                "label": tf.cast(record[self._label_key], tf.int64),
                "index": self._index(record["tfds_id"]),
            }

        return records.map(example, num_parallel_calls=tf.data.AUTOTUNE)

    def _index(self, name: tf.Tensor) -> tf.Tensor:
        """Reads the number of an example from its TFDS name, `FILE__NUMBER`."""
        number = tf.strings.to_number(tf.strings.regex_replace(name, ".*__", ""), tf.int64)
        if not self._files:
            return number
        firsts = tf.constant([file.first for file in self._files], tf.int64)
        here = tf.constant([file.name for file in self._files]) == tf.strings.regex_replace(name, r"__\d+$", "")
        return number + tf.reduce_max(tf.where(here, firsts, 0))

    def part(self, num_parts: int, index: int) -> "TfdsSource":
        if num_parts == 1:
            return self
        part = copy.copy(self)
        for known in ("num_examples", "labels"):
            part.__dict__.pop(known, None)
        even = tfds.even_splits(self.spec.split, num_parts, drop_remainder=False)[index]
        slices = even.to_absolute(self.builder.info.splits)
        split = "+".join(f"{one.splitname}[{one.from_ or 0}:{'' if one.to is None else one.to}]" for one in slices)
        part.spec = dataclasses.replace(self.spec, split=split)
        return part


def prepared(spec: DatasetSpec) -> tfds.core.DatasetBuilder:
    """Returns the builder of a dataset, which is downloaded or prepared on first use."""
    if spec.name == "digits":
        return prepared_digits(spec.data_dir)
    try:
        builder = tfds.builder(spec.name, data_dir=spec.data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError, OSError, AssertionError) as error:
        if os.sep in spec.name:
            raise ValueError(f"{spec.name} is neither a folder nor a TFDS dataset.") from error
        raise ValueError(
            f"There is no TFDS dataset {spec.name!r} ({_first_line(error)}). To name a folder of images, write a path "
            f"separator: ./{spec.name}."
        ) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            builder.download_and_prepare()
    except Exception as error:  # a dataset's own code may raise anything
        raise ValueError(
            f"{spec.name} is not prepared in {builder.data_dir} and could not be downloaded: "
            f"{type(error).__name__}: {_first_line(error)} If it is in another folder, pass that folder as data_dir."
        ) from error
    return builder


def _files(splits: tfds.core.SplitDict, expression: str) -> list[_File]:
    """Lists all files of the splits that an expression names, in order. Slices are ignored."""
    named = {file.basename() for file in splits[expression].file_instructions}
    files: list[_File] = []
    first = 0
    for name, split in splits.items():
        instructions = split.file_instructions
        if named.isdisjoint(file.basename() for file in instructions):
            continue
        before = first
        for file in instructions:
            files.append(_File(file.basename(), name, before, first))
            first += file.take
    return files


def _keys(spec: DatasetSpec, info: tfds.core.DatasetInfo) -> tuple[str, str]:
    """Finds the names of the image feature and of the label feature."""
    image_key, label_key = info.supervised_keys if info.supervised_keys else ("image", "label")
    label_key = spec.label_key or label_key
    labels = [name for name, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if image_key not in info.features or not isinstance(info.features[image_key], tfds.features.Image):
        raise ValueError(f"{spec.name} has no image feature {image_key!r}; it has {', '.join(info.features)}.")
    if label_key not in labels:
        raise ValueError(
            f"{label_key!r} of {spec.name} is not one class label per image: set label_key to one of: "
            f"{', '.join(labels) or 'none'}."
        )
    return image_key, label_key


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
