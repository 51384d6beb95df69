import family
import goldens
import numpy as np
import pytest

import keras_mixer
from keras_mixer import models


@pytest.mark.backends
def test_feature_maps_have_one_entry_per_resolution():
    model = family.model("vip", include_top=False)
    keras_mixer.weights.load(model, family.checkpoint("vip"), skip=("head",))
    maps = [np.array(goldens.outputs(lambda x, i=i: model(x)[i], family.answers("vip")[0])) for i in range(2)]
    assert [features.shape for features in maps] == [(3, 8, 8, 16), (3, 4, 4, 32)]


def test_published_variants_have_maps_at_their_strides():
    model = models.build(
        "vision_permutator_small_7", include_top=False, hidden_dims=(32, 32, 32, 32), layers=(1, 1, 1, 1)
    )
    assert [shape[1:3] for shape in model.output_shape] == [(32, 32), (16, 16)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(segment_dims=(8, 5)), r"`segment_dim` must divide the 32 channels, but got 5"),
        (dict(mlp_ratios=(3,)), r"`mlp_ratios` must have one entry for each of the 2 stages"),
        (dict(transitions=("no", False)), r"`transitions` must be True or False, but got 'no'"),
        (dict(layers=()), r"at least one stage"),
        (dict(layers=(1, 0)), r"`layers` must be a positive integer, but got 0"),
        (dict(input_shape=(None, None, 3)), r"one static size"),
        (dict(input_shape=(30, 32, 3)), r"multiple of the patch size"),
        (dict(input_shape=(36, 32, 3)), r"'downsampling_0'.*9 x 8 positions.*patch size times 2"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        family.model("vip", **change)


@pytest.mark.backends
def test_other_image_sizes_and_shapes_build():
    model = family.randomised(family.model("vip", input_shape=(48, 64, 3)))
    images = np.random.default_rng(0).normal(size=(1, 48, 64, 3)).astype("float32")
    assert np.isfinite(goldens.outputs(model, images)).all()
