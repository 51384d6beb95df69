import sys

import keras
import numpy as np
import pytest

from keras_mixer.cli.invariance import builders


def test_a_vit_needs_kerashub_and_says_so_before_anything_is_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r'pip install "keras_mixer\[comparators\]"'):
        builders(["mixer", "vit"], (8, 8, 1), 2, 10)


@pytest.mark.parametrize("name", ["mixer", "convnet", "resnet50"])
def test_each_classifies_images_of_the_given_shape(name):
    model = builders([name], (8, 16, 1), 4, 7)[name]()
    scores = np.asarray(model(np.random.default_rng(0).normal(size=(2, 8, 16, 1)).astype("float32")))
    assert scores.shape == (2, 7)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    # Statistics that are still near their start after a few hundred steps would leave it at chance.
    layers = model._flatten_layers()
    momenta = {layer.momentum for layer in layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert momenta == ({0.9} if name == "resnet50" else set())
