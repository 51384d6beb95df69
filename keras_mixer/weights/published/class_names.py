"""Names of the classes of published heads, and `decode_predictions`."""

import json
from collections.abc import Sequence

from keras_mixer.classes import best_classes, checked_names
from keras_mixer.download import cached_file
from keras_mixer.models.record import WeightSet
from keras_mixer.shapes import integer

# Files that map a class number to a WordNet id and a name, for both label sets.
_IMAGENET_1K = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
_IMAGENET_21K_IDS = "https://storage.googleapis.com/bit_models/imagenet21k_wordnet_ids.txt"
_IMAGENET_21K_LEMMAS = "https://storage.googleapis.com/bit_models/imagenet21k_wordnet_lemmas.txt"


def decode_predictions(
    probabilities, top: int | None = None, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Names the best classes of each prediction.

    The names of ImageNet's classes are fetched once into the Keras cache.

    Args:
        probabilities: Scores of shape `(batch, classes)`, with 1,000 or 21,843 classes unless `class_names` is given.
        top: Number of classes for each prediction. None means five, or all if there are fewer than five.
        class_names: Names of the classes, in the order of the scores, as from `keras_mixer.weights.names_of`: a list, a
            tuple or a NumPy array of strings or UTF-8 bytes. None means the classes of ImageNet.

    Returns:
        For each prediction, `top` triples (WordNet id, name, score), best first. With `class_names`, the name is also
        the id. Equal scores are in the order of the classes, and scores that are not a number come last.

    Raises:
        ValueError: If the scores have another shape, `top` is out of range, `class_names` does not hold one string
            for each class, or the file of names is damaged.
        OSError: If the names are not in the cache and cannot be fetched.

    Example:
        >>> keras_mixer.decode_predictions(model.predict(images), top=1)
        [[('n02123045', 'tabby', 0.93)]]
        >>> names = keras_mixer.weights.names_of(keras_mixer.weights.find("mixer_nano", "cifar10"))
        >>> keras_mixer.decode_predictions(nano.predict(images), top=1, class_names=names)
        [[('cat', 'cat', 0.88)]]
    """
    from keras import ops

    scores = ops.convert_to_numpy(probabilities)
    given = None if class_names is None else checked_names(class_names)
    sizes = tuple(_READERS) if given is None else (len(given),)
    if scores.ndim != 2 or scores.shape[1] not in sizes:
        raise ValueError(
            f"Expected scores of shape {' or '.join(f'(batch, {size})' for size in sizes)}, but got {scores.shape}. "
            "`class_names` names the classes; without it they are those of ImageNet-1k or ImageNet-21k."
        )
    if top is None:
        top = min(5, scores.shape[1])
    if not 1 <= (integer(top) or 0) <= scores.shape[1]:
        raise ValueError(f"`top` must be an integer from 1 to {scores.shape[1]}, but got {top!r}.")
    names = _READERS[scores.shape[1]]() if given is None else [(name, name) for name in given]
    best = best_classes(scores, top)
    return [[(*names[index], float(row[index])) for index in order] for row, order in zip(scores, best, strict=True)]


def wordnet_ids(classes: int) -> tuple[str, ...]:
    """Returns the WordNet ids of a published head's classes, in the order of its scores.

    They are fetched once into the Keras cache.

    Args:
        classes: Number of classes of the head, 1,000 for ImageNet or 21,843 for ImageNet-21k.

    Raises:
        ValueError: If `classes` is another number, or the file of names is damaged.
        OSError: If the names are not in the cache and cannot be fetched.
    """
    if classes not in _READERS:
        raise ValueError(f"Only heads of 1,000 and 21,843 classes have WordNet ids, but this one has {classes:,}.")
    return tuple(wordnet_id for wordnet_id, _ in _READERS[classes]())


def names_of(entry: WeightSet) -> tuple[str, ...]:
    """Returns the names of the classes of a set of weights. For ImageNet's classes they are WordNet ids.

    Args:
        entry: The set, from `keras_mixer.weights.find`.

    Raises:
        ValueError: If the names are not known, or the file of names is damaged.
        OSError: If the names are not in the cache and cannot be fetched.
    """
    return entry.class_names or wordnet_ids(entry.classes)


def _imagenet_1k() -> list[tuple[str, str]]:
    path = cached_file(_IMAGENET_1K, "imagenet_class_index.json")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return [(str(index[str(number)][0]), str(index[str(number)][1])) for number in range(1_000)]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not the index of the 1,000 classes: delete it to fetch it again.") from error


def _imagenet_21k() -> list[tuple[str, str]]:
    columns = []
    for address in (_IMAGENET_21K_IDS, _IMAGENET_21K_LEMMAS):
        path = cached_file(address, address.rpartition("/")[2])
        columns.append(path.read_text(encoding="utf-8", errors="replace").splitlines())
        if len(columns[-1]) != 21_843:
            raise ValueError(f"{path} has {len(columns[-1])} lines instead of 21,843: delete it to fetch it again.")
    return list(zip(*columns, strict=True))


_READERS = {1_000: _imagenet_1k, 21_843: _imagenet_21k}
