import numpy as np

from keras_mixer.evaluation import Predictor, measure_latency


def test_each_classifier_is_called_in_turn_after_warming_up():
    calls = []

    def predictor(name):
        return Predictor("fixed", lambda images: calls.append((name, len(images))))

    found = measure_latency({"a": predictor("a"), "b": predictor("b")}, np.zeros((4, 2, 2, 1)), repetitions=3)
    assert calls == [("a", 4), ("b", 4)] * 4
    for latency in found.values():
        assert latency.batch_size == 4
        assert latency.images_per_second == 4 / (latency.milliseconds / 1e3)
