"""Mixer's siblings at other image sizes."""

import family
import goldens
import keras
import numpy as np
import pytest

from keras_mixer import weights


def loaded(sibling, **arguments):
    model = family.model(sibling, **arguments)
    weights.load(model, family.checkpoint(sibling), skip=() if arguments.get("include_top", True) else ("head",))
    return model


def photographs(height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(2, height, width, 3)).astype("float32")


@pytest.mark.backends
@pytest.mark.parametrize("sibling", ["resmlp", "gmlp"])
def test_block_diagonal_weights_give_the_mean_over_the_parts(sibling):
    model = loaded(sibling)
    grown = weights.change_resolution(model, (64, 96))
    images = photographs(64, 96)
    parts = [images[:, y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32, 64)]
    expected = np.mean([goldens.outputs(model, part) for part in parts], axis=0)
    np.testing.assert_allclose(goldens.outputs(grown, images), expected, rtol=1e-4, atol=1e-5)


def resized(maps, size):
    """Keras's own antialiased resize."""
    return keras.ops.convert_to_numpy(keras.ops.image.resize(maps, size, interpolation="bilinear", antialias=True))


def test_a_resampled_token_map_acts_between_two_resizes():
    model = loaded("resmlp")
    changed = weights.change_resolution(model, (40, 24))  # 5 x 3 patches instead of 4 x 4
    maps = np.random.default_rng(0).normal(size=(2, 5, 3, 16)).astype("float32")
    old, new = (m.get_layer("block_0_token_linear") for m in (model, changed))
    shrunk = resized(maps, (4, 4)).reshape(2, 16, 16)
    expected = resized(goldens.outputs(old, shrunk).reshape(2, 4, 4, 16), (5, 3))
    outputs = goldens.outputs(new, maps.reshape(2, 15, 16)).reshape(2, 5, 3, 16)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


def test_a_gated_model_goes_to_any_multiple_of_the_patch():
    changed = weights.change_resolution(loaded("gmlp"), (40, 24))
    assert changed.input_shape == (None, 40, 24, 3)
    assert np.isfinite(goldens.outputs(changed, photographs(40, 24))).all()


@pytest.mark.backends
def test_a_permutator_at_its_own_size_is_unchanged():
    model = loaded("vip")
    same = weights.change_resolution(model, (32, 32))
    images, logits = family.answers("vip")
    assert goldens.relative_error(goldens.outputs(same, images), logits) < 1e-5


@pytest.mark.parametrize("sibling", ["convmixer", "cyclemlp"])
@pytest.mark.parametrize("resize", [True, (32, 32)])
def test_what_does_not_depend_on_the_size_loads_as_it_is_though_a_resize_is_allowed(sibling, resize):
    larger = family.model(sibling, input_shape=(64, 64, 3))
    weights.load(larger, family.checkpoint(sibling), resize=resize)
    assert goldens.same(goldens.snapshot(larger), goldens.snapshot(loaded(sibling)))


def test_a_permutators_line_weights_act_between_two_resizes():
    model = loaded("vip")
    changed = weights.change_resolution(model, (48, 32))  # 12 rows of patches instead of 8, and 8 columns as before
    old, new = (m.get_layer("stage_0_block_0_mixing") for m in (model, changed))
    lines = np.random.default_rng(0).normal(size=(5, 12, 1, 2)).astype("float32")  # 2 channels in each of 12 places
    shrunk = resized(lines, (8, 1)).reshape(5, 16)
    expected = resized((shrunk @ np.array(old.height.kernel)).reshape(5, 8, 1, 2), (12, 1))
    outputs = (lines.reshape(5, 24) @ np.array(new.height.kernel)).reshape(5, 12, 1, 2)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(np.array(old.width.kernel), np.array(new.width.kernel))


def test_a_permutator_loads_at_another_size_as_it_changes():
    changed = weights.change_resolution(loaded("vip"), (48, 64))
    direct = family.model("vip", input_shape=(48, 64, 3))
    with pytest.raises(ValueError, match="resize=True"):
        weights.load(direct, family.checkpoint("vip"))
    weights.load(direct, family.checkpoint("vip"), resize=True)
    assert goldens.same(goldens.snapshot(changed), goldens.snapshot(direct))


def test_a_permutator_cannot_be_parted():
    with pytest.raises(ValueError, match="mixes along whole rows and columns"):
        weights.change_resolution(loaded("vip"), 64, method="block_diagonal")
    with pytest.raises(ValueError, match="multiple of the patch size"):
        weights.change_resolution(loaded("vip"), 33)
    with pytest.raises(ValueError, match="9 x 9 positions cannot be divided"):
        weights.change_resolution(loaded("vip"), 36)


@pytest.mark.parametrize("sibling", ["convmixer", "cyclemlp"])
def test_models_of_any_size_keep_their_weights(sibling):
    model = loaded(sibling)
    changed = weights.change_resolution(model, (44, 64))
    assert changed.input_shape == (None, 44, 64, 3)
    assert goldens.same(goldens.snapshot(changed), goldens.snapshot(model))
    images = photographs(44, 64)
    expected = goldens.outputs(loaded(sibling, input_shape=(None, None, 3)), images)
    np.testing.assert_allclose(goldens.outputs(changed, images), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="has no weights over tokens"):
        weights.change_resolution(model, 64, method="block_diagonal")


def test_a_size_that_the_builder_takes_needs_no_whole_patches():
    changed, images = weights.change_resolution(loaded("convmixer"), (44, 63)), photographs(44, 63)
    expected = goldens.outputs(loaded("convmixer", input_shape=(44, 63, 3)), images)
    np.testing.assert_allclose(goldens.outputs(changed, images), expected, rtol=1e-4, atol=1e-5)


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match=r"A layer of .* does not take images of 3 x 3"):
        weights.change_resolution(loaded("convmixer"), 3)


def test_a_network_whose_weights_know_the_size_in_another_way_is_refused():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
    with pytest.raises(ValueError, match=r"dense.*/kernel of .* \(768, 2\) at the new size and \(192, 2\)"):
        weights.change_resolution(model, 16)


@pytest.mark.parametrize("sibling", ["resmlp", "gmlp"])
def test_permuted_patches_can_be_made_up_for(sibling):
    model = loaded(sibling)
    images = photographs(32, 32)
    order = np.random.default_rng(0).permutation(16)
    patches = images.reshape(2, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 8, 8, 3)[:, order]
    shuffled = patches.reshape(2, 4, 4, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
    permuted = weights.permute(model, patch_permutation=order)
    np.testing.assert_allclose(
        goldens.outputs(permuted, shuffled), goldens.outputs(model, images), rtol=1e-4, atol=1e-5
    )


def test_a_permutators_patches_have_their_place():
    with pytest.raises(ValueError, match="patches in another order"):
        weights.permute(loaded("vip"), patch_permutation=np.arange(64))
    same = weights.permute(loaded("vip"), pixel_permutation=np.arange(16))
    images, logits = family.answers("vip")
    assert goldens.relative_error(goldens.outputs(same, images), logits) < 1e-5


def test_a_changed_model_saves_and_loads(tmp_path):
    changed = weights.change_resolution(loaded("vip"), (48, 64))
    changed.save(tmp_path / "model.keras")
    images = photographs(48, 64)
    twin = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(twin, images), goldens.outputs(changed, images))
