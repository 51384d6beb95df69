"""Evaluation batches without TensorFlow: every example of a source once, in order, as NumPy arrays."""

import keras
import numpy as np

from keras_mixer.data.arrays import in_order, preprocess, reader
from keras_mixer.data.corrupt import CorruptImages
from keras_mixer.data.sources.base import Source
from keras_mixer.preprocessing import Preprocessing


class EvaluationBatches(keras.utils.PyDataset):
    """What `keras_mixer.data.evaluation_batches` describes, for a source that is read in NumPy."""

    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        batch_size: int,
        one_hot: bool,
        pad: bool,
        corrupt: CorruptImages,
    ):
        super().__init__()
        self._source, self._preprocessing, self._batch_size = source, preprocessing, batch_size
        self._one_hot, self._pad, self._corrupt = one_hot, pad, corrupt
        self._read = reader(preprocessing, corrupt.max_pixels)

    def __len__(self):
        return -(-self._source.num_examples // self._batch_size)

    def __getitem__(self, number):
        source = self._source
        places = range(number * self._batch_size, min((number + 1) * self._batch_size, source.num_examples))
        size = self._batch_size if self._pad else len(places)
        images = np.zeros((size, *self._preprocessing.input_shape), np.float32)
        labels, weights = np.zeros(size, np.int64), np.zeros(size, np.float32)
        labels[: len(places)] = source.labels[places.start : places.stop]
        for row, image in enumerate(in_order(self._prepare, places, len(places))):
            if image is None:
                self._corrupt.note(places[row], source)
            else:
                images[row], weights[row] = image, 1.0
        if not self._one_hot:
            return images, labels, weights
        return images, (labels[:, np.newaxis] == np.arange(len(source.class_names))).astype(np.float32), weights

    def _prepare(self, place: int) -> np.ndarray | None:
        try:
            return preprocess(self._read(self._source.read(place)), self._preprocessing)
        except (OSError, ValueError):
            return None


class PartOfBatches(keras.utils.PyDataset):
    """The part of each batch that belongs to one of several processes.

    Each process decodes whole batches, so that all of them count the same unreadable images.

    Args:
        batches: Batches whose size is a multiple of `parts`.
        parts: Number of processes.
        part: Index of this process.
    """

    def __init__(self, batches: keras.utils.PyDataset, parts: int, part: int):
        super().__init__()
        self._batches, self._parts, self._part = batches, parts, part

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, number):
        batch = self._batches[number]
        local = len(batch[0]) // self._parts
        return tuple(value[self._part * local : (self._part + 1) * local] for value in batch)
