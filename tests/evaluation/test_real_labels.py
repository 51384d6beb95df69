import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_mixer.data import Preprocessing
from keras_mixer.evaluation import Predictor, real_labels


def test_any_label_counts_and_images_without_one_do_not():
    accuracy, counted = real_labels.real_accuracy(np.array([3, 1, 2, 0]), [[5, 3], [2], [], [0]])
    assert (accuracy, counted) == (pytest.approx(2 / 3), 3)


def test_no_labels_at_all():
    with pytest.raises(ValueError, match="None of the images"):
        real_labels.real_accuracy(np.array([1]), [[]])


class MultiLabel(tfds.core.GeneratorBasedBuilder):
    """Images of one grey level g (0 to 4), labelled with g and g + 1; those of level 4 have no label."""

    VERSION = tfds.core.Version("1.0.0")
    name = "multi_label"

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
            "real_label": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=6)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        for level in range(5):
            labels = [] if level == 4 else [level, level + 1]
            yield level, {"image": np.full((8, 8, 3), 50 * level, np.uint8), "real_label": labels}


def test_reads_the_features_of_imagenet_real(tmp_path):
    builder = MultiLabel(data_dir=tmp_path)
    builder.download_and_prepare()
    preprocessing = Preprocessing(image_size=(8, 8), channels=3, resize="direct", mean=0.0, std=1.0)

    def level_of(images):  # one-hot scores of seven classes, the wanted six being the last
        levels = np.round(np.asarray(images).mean(axis=(1, 2, 3)) * 255 / 50).astype(int)
        return np.eye(7)[levels + 1]

    predictor = Predictor("numpy", level_of)
    batches = real_labels.real_batches(preprocessing, 2, builder=builder)
    accuracy, counted = real_labels.measure_real(predictor, batches, classes=np.arange(1, 7))
    assert (accuracy, counted) == (1.0, 4)
    shifted = Predictor("numpy", lambda images: np.roll(level_of(images), 2, axis=1))
    accuracy, _ = real_labels.measure_real(
        shifted, real_labels.real_batches(preprocessing, 3, builder=builder), classes=np.arange(1, 7)
    )
    assert accuracy == 0.0


def test_class_subset_finds_the_wanted_in_their_order():
    names = ["n4", "n1", "n3", "n2"]
    assert real_labels.class_subset(names, ["n1", "n2"]).tolist() == [1, 3]
    with pytest.raises(ValueError, match="1 of 2 classes are not among the model's, as 'n9'"):
        real_labels.class_subset(names, ["n1", "n9"])
