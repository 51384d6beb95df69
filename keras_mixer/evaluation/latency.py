"""Latency and throughput of classifiers, timed in turn so that a busy machine slows all of them alike."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from keras_mixer.evaluation.predictors import Predictor


@dataclasses.dataclass(frozen=True)
class Latency:
    """Times of one classifier at one batch size: the median over repetitions.

    Attributes:
        milliseconds: Of one call.
        images_per_second: Of a caller that calls again at once.
        batch_size: Images of one call.
    """

    milliseconds: float
    images_per_second: float
    batch_size: int


def measure_latency(
    predictors: Mapping[str, Predictor], images: np.ndarray, *, repetitions: int = 10
) -> dict[str, Latency]:
    """Times one call of each classifier on `images`, in turn, after one call to warm up.

    Args:
        predictors: Classifiers by name.
        images: Preprocessed images `(batch_size, height, width, channels)`.
        repetitions: Calls of each classifier.

    Returns:
        The median times by name.
    """
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for predictor in predictors.values():
        predictor.scores(images)
    for _ in range(repetitions):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor.scores(images)
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {name: Latency(1e3 * median, len(images) / median, len(images)) for name, median in medians.items()}
