import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.data.augmentation.mixing import draw, mix


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(6, 8, 10, 3)), tf.float32), tf.one_hot([0, 1, 2, 3, 0, 0], 4)


def mixed(batch, number, **parameters):
    mixture = draw((8, 10), **{"mixup": 0.0, "cutmix": 0.0} | parameters, seed=tf.constant([9, number]))
    images, labels = mix(*batch, mixture)
    return images.numpy(), labels.numpy()


def partners(values):
    return np.asarray(values)[[1, 0, 3, 2, 5, 4]]


def test_mixup_is_one_convex_combination_for_the_batch(batch):
    images, labels = mixed(batch, 0, mixup=0.5)
    share = labels[0, 0]  # example 0 is of class 0, its partner of class 1
    assert 0.5 <= share <= 1
    np.testing.assert_allclose(labels, share * batch[1] + (1 - share) * partners(batch[1]), atol=1e-6)
    np.testing.assert_allclose(images, share * batch[0] + (1 - share) * partners(batch[0]), atol=1e-5)


@pytest.mark.parametrize("parameter", [0.2, 0.5, 2.0])
def test_mixup_draws_from_beta(batch, parameter):
    shares = np.array([mixed(batch, number, mixup=parameter)[1][0, 0] for number in range(300)], float)
    # Beta(p, p) has the variance 1 / (4 (2 p + 1)); the greater of a and 1 - a is as far from 1/2.
    variance = ((shares - 0.5) ** 2).mean()
    assert variance == pytest.approx(1 / (4 * (2 * parameter + 1)), rel=0.15)


def test_a_tiny_parameter_is_no_number_trouble(batch):
    shares = [mixed(batch, number, mixup=0.01)[1][0, 0] for number in range(50)]
    assert np.isfinite(shares).all()
    assert np.mean(np.array(shares) > 0.99) > 0.8


@pytest.mark.parametrize("parameter", [1.0, 0.05])  # with the second, many boxes are empty
def test_cutmix_pastes_one_box_of_the_partner(batch, parameter):
    areas = set()
    for number in range(40):
        images, labels = mixed(batch, number, cutmix=parameter)
        from_partner = (images == partners(batch[0])).all(axis=-1)
        from_itself = (images == np.asarray(batch[0])).all(axis=-1)
        assert (from_partner | from_itself).all()
        box = from_partner[0] & ~from_itself[0]
        assert all((from_partner[example] & ~from_itself[example] == box).all() for example in range(6))
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert box.sum() == len(rows) * len(columns)
        share = 1 - box.mean()
        np.testing.assert_allclose(labels, share * batch[1] + (1 - share) * partners(batch[1]), atol=1e-6)
        areas.add(int(box.sum()))
    assert len(areas) > 10


def test_a_coin_decides_between_both(batch):
    kinds = []
    for number in range(60):
        images, _ = mixed(batch, number, mixup=1.0, cutmix=1.0)
        copied = (images == np.asarray(batch[0])) | (images == partners(batch[0]))
        kinds.append("cutmix" if copied.all() else "mixup")
    assert 15 < kinds.count("mixup") < 45


def test_a_shard_is_mixed_as_in_the_whole_batch(batch):
    for parameters in ({"mixup": 0.5}, {"cutmix": 1.0}):
        images, labels = mixed(batch, 3, **parameters)
        shard_images, shard_labels = mixed((batch[0][2:4], batch[1][2:4]), 3, **parameters)
        np.testing.assert_allclose(shard_images, images[2:4], atol=1e-6)
        np.testing.assert_allclose(shard_labels, labels[2:4], atol=1e-6)


def test_off_is_untouched(batch):
    images, labels = mixed(batch, 0)
    np.testing.assert_array_equal(images, batch[0])
    np.testing.assert_array_equal(labels, batch[1])
