import keras
import numpy as np
import pytest

import keras_mixer


@pytest.mark.backends
@pytest.mark.parametrize("options", [dict(use_bias=False), dict(activation="relu", padding="same", trainable=False)])
def test_further_arguments_of_the_convolution_survive_a_keras_file(options, tmp_path):
    maps = keras.Input((4, 6, 8))
    model = keras.Model(maps, keras_mixer.layers.PatchMerging(5, 2, name="merging", **options)(maps))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype("float32")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
    layer = loaded.get_layer("merging")
    found = {name: getattr(layer, name) for name in options}
    assert found == {**options, **({"activation": keras.activations.relu} if "activation" in options else {})}


def test_a_configuration_names_no_argument_that_follows_from_another():
    config = keras_mixer.layers.PatchMerging(5, 2).get_config()
    assert (config["hidden_dim"], config["factor"]) == (5, 2)
    assert not {"filters", "kernel_size", "strides"} & set(config)


@pytest.mark.backends
def test_a_built_layer_still_refuses_a_row_that_fills_no_patch():
    layer = keras_mixer.layers.PatchMerging(5, 2)
    assert tuple(layer(np.zeros((2, 4, 4, 8))).shape) == (2, 2, 2, 5)
    with pytest.raises(ValueError, match=r"merges 2 x 2 positions.*but 5 x 4 positions"):
        layer(np.zeros((2, 5, 4, 8)))
