import multiprocessing

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

from keras_mixer.data.sources.digits import prepared_digits


def read(data_dir, split):
    return list(tfds.as_numpy(prepared_digits(data_dir).as_dataset(split=split)))


def test_holds_scikit_learns_digits(data_dir):
    examples = read(data_dir, "train") + read(data_dir, "test")
    images, labels = sklearn.datasets.load_digits(return_X_y=True)

    def key(image, label):
        return (*np.asarray(image, int).ravel(), int(label))

    ours = sorted(key(np.round(example["image"] / 255 * 16), example["label"]) for example in examples)
    assert ours == sorted(key(image, label) for image, label in zip(images, labels, strict=True))
    assert {example["image"].max() for example in examples} <= set(range(256))
    assert max(example["image"].max() for example in examples) == 255


def test_splits_hold_every_class(data_dir):
    train, test = read(data_dir, "train"), read(data_dir, "test")
    assert (len(train), len(test)) == (1437, 360)
    assert min(np.bincount([example["label"] for example in test], minlength=10)) >= 20


def test_is_a_tfds_dataset(data_dir):
    train = tfds.load("digits", split="train[:10%]", data_dir=data_dir, as_supervised=True, download=False)
    image, _ = next(iter(train))
    assert image.shape == (8, 8, 1)
    assert len(train) == 144


def prepare(data_dir, barrier, sizes):
    barrier.wait(timeout=300)
    sizes.put(prepared_digits(data_dir).info.splits["train"].num_examples)


def test_two_processes_prepare_at_once_what_another_prepared(data_dir, tmp_path):
    """This process and one more."""
    context = multiprocessing.get_context("spawn")
    barrier, sizes = context.Barrier(2), context.Queue()
    process = context.Process(target=prepare, args=(str(tmp_path), barrier, sizes))
    process.start()
    prepare(str(tmp_path), barrier, sizes)
    assert [sizes.get(timeout=120) for _ in range(2)] == [1437, 1437]
    process.join()
    assert process.exitcode == 0
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]  # no scratch folder stays
    assert len(read(str(tmp_path), "train")) == 1437
    ours, others = read(str(tmp_path), "test"), read(data_dir, "test")
    assert all((a["image"] == b["image"]).all() and a["label"] == b["label"] for a, b in zip(ours, others, strict=True))
