import json
import pathlib

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_mixer
from keras_mixer import weights
from keras_mixer.evaluation import invariance

SIZE, PATCH = (6, 8), (3, 2)


def blocks(image):
    return [image[r : r + 3, c : c + 2] for r in (0, 3) for c in (0, 2, 4, 6)]


def permuted(order, images, seed=0):
    return invariance.permute_pixels(images, invariance.pixel_order(order, SIZE, PATCH, seed))


@pytest.fixture
def images():
    return np.arange(2 * 48 * 3).reshape(2, *SIZE, 3)


def test_the_original_order_changes_nothing(images):
    np.testing.assert_array_equal(permuted("original", images), images)


def test_patches_keep_their_pixels_in_one_shared_order(images):
    shuffled = permuted("patches and pixels", images)
    orders = set()
    for image, result in zip(images, shuffled, strict=True):
        originals = {frozenset(block[..., 0].ravel()): block.reshape(-1, 3) for block in blocks(image)}
        places = []
        for block in blocks(result):
            pixels = block.reshape(-1, 3)
            original = originals[frozenset(pixels[:, 0])]
            places.append(list(originals).index(frozenset(pixels[:, 0])))
            orders.add(tuple(int(np.flatnonzero((original == pixel).all(axis=1))[0]) for pixel in pixels))
        assert sorted(places) == list(range(8))
        assert places != list(range(8))
        orders.add(("patches", *places))
    assert len(orders) == 2  # one order of pixels, and one of patches, for all patches and images


def test_all_pixels_leave_their_patches(images):
    shuffled = permuted("all pixels", images)
    for image, result in zip(images, shuffled, strict=True):
        assert sorted(map(tuple, image.reshape(-1, 3))) == sorted(map(tuple, result.reshape(-1, 3)))
        kept = {frozenset(block[..., 0].ravel()) for block in blocks(image)}
        assert not any(frozenset(block[..., 0].ravel()) in kept for block in blocks(result))


def test_seeds_decide(images):
    for order in invariance.ORDERS[1:]:
        np.testing.assert_array_equal(permuted(order, images, seed=1), permuted(order, images, seed=1))
        assert not np.array_equal(permuted(order, images, seed=1), permuted(order, images, seed=2))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="Patches of 4 x 2 do not divide"):
        invariance.pixel_order("original", SIZE, (4, 2), 0)
    with pytest.raises(ValueError, match="`patch` must be a positive integer"):
        invariance.pixel_order("original", SIZE, (4.0, 4.0), 0)
    with pytest.raises(ValueError, match="`epochs` must be a positive integer"):
        invariance.invariance_experiment({}, (np.zeros(4), None), (np.zeros(4), None), PATCH, epochs="3")
    with pytest.raises(ValueError, match="`order` must be one of"):
        invariance.pixel_order("rows", SIZE, PATCH, 0)


def test_a_convolution_minds():
    """Four bright pixels in noise, side by side or apart: a small convolution tells which, until pixels are mixed."""
    rng = np.random.default_rng(0)

    def split(count):
        images = rng.normal(0, 0.3, size=(count, *SIZE, 1)).astype("float32")
        labels = rng.integers(0, 2, count)
        for image, label in zip(images, labels, strict=True):
            row, column = rng.integers(0, 4), rng.integers(0, 6)
            cells = [(0, 0), (0, 1), (1, 0), (1, 1)] if label else [(0, 0), (0, 2), (2, 0), (2, 2)]
            for down, across in cells:
                image[min(row + down, 5), min(column + across, 7)] += 2.0
        return images, labels

    def convolution():
        inputs = keras.Input((*SIZE, 1))
        x = keras.layers.Conv2D(16, 2, activation="relu")(inputs)
        x = keras.layers.GlobalMaxPooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))

    reported = []
    curves = invariance.invariance_experiment(
        {"convolution": convolution},
        split(900),
        split(300),
        PATCH,
        epochs=6,
        batch_size=30,
        learning_rate=0.02,
        report=reported.append,
    )
    assert [curve.order for curve in curves] == list(invariance.ORDERS)
    assert reported == curves
    assert all(len(curve.accuracy) == len(curve.loss) == 6 for curve in curves)
    original, _, mixed = (curve.accuracy[-1] for curve in curves)
    assert original > 0.9
    assert mixed < original - 0.1


def test_a_mixer_learns_the_same_from_shuffled_patches():
    """Real digits; equal but for rounding if it starts from weights that are permuted as the images are."""
    data, labels = load_digits(return_X_y=True)
    images = (data.reshape(-1, 8, 8, 1) / 8 - 1).astype("float32")

    def in_patches(pixels):
        return pixels.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)

    indices = invariance.pixel_order("patches and pixels", (8, 8), (2, 2), seed=3)
    shuffled = invariance.permute_pixels(images, indices)
    origins = [np.argwhere(in_patches(np.arange(64)) == pixel)[0] for pixel in in_patches(indices).ravel()]
    patches, pixels = np.array(origins).reshape(16, 4, 2)[:, 0, 0], np.array(origins)[:4, 1]

    keras.utils.set_random_seed(0)
    model = keras_mixer.Mixer(
        num_blocks=1,
        patch_size=2,
        hidden_dim=32,
        tokens_mlp_dim=16,
        channels_mlp_dim=64,
        input_shape=(8, 8, 1),
        classes=10,
    )
    permuted = weights.permute(model, patches, pixels)
    unmoved = keras.models.clone_model(model)
    unmoved.set_weights(model.get_weights())

    def learn(model, images):
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
        losses = model.fit(images[:1400], labels[:1400], 70, epochs=5, shuffle=False, verbose=0).history["loss"]
        return losses, keras.ops.convert_to_numpy(model(images[1400:]))

    losses, scores = learn(model, images)
    assert losses[-1] < 0.5 * losses[0]
    same_losses, same_scores = learn(permuted, shuffled)
    np.testing.assert_allclose(same_losses, losses, rtol=1e-4)
    np.testing.assert_allclose(same_scores, scores, atol=1e-4)
    # From the same weights as with the original order it goes another way, as far as from other weights.
    other_losses, other_scores = learn(unmoved, shuffled)
    assert abs(other_losses[0] - losses[0]) > 0.01
    right, other_right = ((values.argmax(axis=1) == labels[1400:]).mean() for values in (scores, other_scores))
    assert right > 0.7
    assert other_right == pytest.approx(right, abs=0.05)


def test_the_record_of_cifar10_is_what_the_page_says():
    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "invariance_cifar10.json"
    last = {(curve["model"], curve["order"]): curve["accuracy"][-1] for curve in json.loads(path.read_text())}
    lost = {key: last[key[0], "original"] - accuracy for key, accuracy in last.items()}
    _, patches, pixels = invariance.ORDERS
    assert 0.01 < lost["resnet50", patches] < lost["resnet50", pixels]
    assert abs(lost["vit", patches]) < 0.01 < lost["vit", pixels]
    assert max(abs(lost["mixer", order]) for order in (patches, pixels)) < 0.01
    assert last["mixer", "original"] < last["vit", "original"]
