import multiprocessing

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

from keras_mixer.data.digits import prepared_digits


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


def test_splits_are_fixed_and_hold_every_class(data_dir, tmp_path):
    train, test = read(data_dir, "train"), read(data_dir, "test")
    assert (len(train), len(test)) == (1437, 360)
    assert min(np.bincount([example["label"] for example in test], minlength=10)) >= 20
    again = read(str(tmp_path), "test")
    assert all((a["image"] == b["image"]).all() and a["label"] == b["label"] for a, b in zip(test, again, strict=True))


def test_is_a_tfds_dataset(data_dir):
    train = tfds.load("digits", split="train[:10%]", data_dir=data_dir, as_supervised=True, download=False)
    image, _ = next(iter(train))
    assert image.shape == (8, 8, 1)
    assert len(train) == 144


def prepare(data_dir, barrier, sizes):
    barrier.wait()
    sizes.put(prepared_digits(data_dir).info.splits["train"].num_examples)


def test_two_processes_prepare_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, sizes = context.Barrier(2), context.Queue()
    processes = [context.Process(target=prepare, args=(str(tmp_path), barrier, sizes)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [sizes.get(timeout=120) for _ in processes] == [1437, 1437]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]  # no scratch folder stays
    assert len(read(str(tmp_path), "train")) == 1437
