import keras
import numpy as np
import pytest
from sklearn.decomposition import PCA

import keras_mixer
from keras_mixer import visualization

pytestmark = pytest.mark.backends


@pytest.fixture
def model():
    model = keras_mixer.Mixer(
        num_blocks=2, patch_size=2, hidden_dim=8, tokens_mlp_dim=5, channels_mlp_dim=12, input_shape=(6, 4, 3),
        include_top=False,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.7, size=w.shape).astype("float32") for w in model.get_weights()])
    return model


def test_is_the_pca_of_the_tokens(model):
    images = np.random.default_rng(0).normal(size=(5, 6, 4, 3)).astype("float32")
    result = visualization.feature_pca(model, images, block=1)
    tables = keras.Model(model.inputs, model.get_layer("MixerBlock_1").output).predict(images, verbose=0)
    pca = PCA(3).fit(tables.reshape(-1, 8).astype("float64"))
    expected = pca.transform(tables.reshape(-1, 8).astype("float64"))
    assert result.maps.shape == (5, 3, 2, 3)
    found = result.maps.reshape(-1, 3)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.explained, pca.explained_variance_ratio_, rtol=1e-5)


def test_too_many_components_are_named(model):
    with pytest.raises(ValueError, match="do not have 9 components"):
        visualization.feature_pca(model, np.zeros((5, 6, 4, 3)), block=0, components=9)
