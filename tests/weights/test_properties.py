"""What must hold for weights of any size, not only for the sizes of the examples."""

import goldens
import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_mixer
from keras_mixer import weights

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sides = st.integers(1, 3)
seeds = st.integers(0, 2**16)


def mixer(grid, patch, seed, channels=3, **arguments):
    sizes = {"num_blocks": 1, "hidden_dim": 4, "tokens_mlp_dim": 3, "channels_mlp_dim": 5, "classes": 3}
    shape = (grid[0] * patch[0], grid[1] * patch[1], channels)
    model = keras_mixer.Mixer(patch_size=patch, input_shape=shape, **sizes, **arguments)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


def images(model, seed):
    return np.random.default_rng(seed).uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.tuples(sides, sides), seeds)
def test_growing_twice_is_growing_once(grid, first, second, seed):
    """Block-diagonal growth composes: the hidden units come in another order, the function is the same."""
    model = mixer(grid, (2, 3), seed, classifier_activation=None)
    once = [side * a * b * p for side, a, b, p in zip(grid, first, second, (2, 3), strict=True)]
    between = [side * a * p for side, a, p in zip(grid, first, (2, 3), strict=True)]
    direct = weights.change_resolution(model, tuple(once))
    stepwise = weights.change_resolution(weights.change_resolution(model, tuple(between)), tuple(once))
    photographs = images(direct, seed)
    np.testing.assert_allclose(
        goldens.outputs(stepwise, photographs), goldens.outputs(direct, photographs), rtol=1e-4, atol=1e-5
    )


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), seeds)
def test_a_grown_model_gives_the_mean_over_the_parts_of_the_image(grid, parts, seed):
    """Appendix C of the paper."""
    model = mixer(grid, (2, 2), seed, classifier_activation=None)
    height, width = 2 * grid[0], 2 * grid[1]
    grown = weights.change_resolution(model, (height * parts[0], width * parts[1]))
    photographs = images(grown, seed)
    pieces = [
        goldens.outputs(model, photographs[:, y * height : (y + 1) * height, x * width : (x + 1) * width])
        for y in range(parts[0])
        for x in range(parts[1])
    ]
    np.testing.assert_allclose(goldens.outputs(grown, photographs), np.mean(pieces, axis=0), rtol=1e-4, atol=1e-5)


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), seeds)
def test_resampling_to_the_same_size_changes_nothing(grid, patch, seed):
    model = mixer(grid, patch, seed)
    same = weights.change_resolution(model, model.input_shape[1:3], method="resample")
    for ours, theirs in zip(same.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), seeds)
def test_permutations_compose_and_invert(grid, patch, seed):
    model = mixer(grid, patch, seed)
    rng = np.random.default_rng(seed)
    first, second = (rng.permutation(grid[0] * grid[1]) for _ in range(2))
    pixels, more_pixels = (rng.permutation(patch[0] * patch[1]) for _ in range(2))
    twice = weights.permute(weights.permute(model, first, pixels), second, more_pixels)
    # Position i of the second image holds patch second[i] of the first, which is patch first[second[i]].
    once = weights.permute(model, first[second], pixels[more_pixels])
    back = weights.permute(weights.permute(model, first, pixels), np.argsort(first), np.argsort(pixels))
    for name, stepwise, direct, undone, original in zip(
        [weight.path for weight in model.weights],
        *(other.get_weights() for other in (twice, once, back, model)),
        strict=True,
    ):
        np.testing.assert_array_equal(stepwise, direct, err_msg=name)
        np.testing.assert_array_equal(undone, original, err_msg=name)


@few
@given(
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(["npz", "weights.h5", "keras"]),
    seeds,
)
def test_weights_of_any_size_are_the_same_after_saving_and_loading(
    tmp_path, grid, patch, channels, untied, suffix, seed
):
    model = mixer(grid, patch, seed, channels, untied=untied)
    path = tmp_path / f"model.{suffix}"
    if suffix == "npz":
        weights.save_npz(model, path)
    elif suffix == "keras":
        model.save(path)
    else:
        model.save_weights(path)
    other = mixer(grid, patch, seed + 1, channels, untied=untied)
    weights.load(other, path)
    keras.utils.clear_session(free_memory=False)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
