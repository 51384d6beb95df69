"""A SavedModel small enough to write in a test, with the three signatures that an exported Mixer has, and two more.

`python tests/support/stand_in.py FOLDER` writes what the conformance suite expects of a TF Serving at TF_SERVING_URL:
`tensorflow_model_server --model_config_file=FOLDER/models.config --monitoring_config_file=FOLDER/monitoring.config ...`
"""

import io
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

SIZE = 8
CLASSES = ("zero", "one", "two", "three")
CHANNELS = 5
NAME = "stand_in"
LABELS = {"stable": 1, "canary": 2}
SIDE_FEATURES = SIZE * SIZE * 3


def weights(version: int) -> tuple[np.ndarray, np.ndarray]:
    """The two matrices of a version, so that a test can compute its answers in NumPy."""
    generator = np.random.default_rng(version)
    hidden = generator.normal(size=(SIDE_FEATURES, CHANNELS)).astype(np.float32) / 8
    head = generator.normal(size=(CHANNELS, len(CLASSES))).astype(np.float32)
    return hidden, head


def expected_features(images: np.ndarray, version: int) -> np.ndarray:
    return np.tanh(images.reshape(len(images), -1) @ weights(version)[0])


def expected_scores(images: np.ndarray, version: int) -> np.ndarray:
    logits = expected_features(images, version) @ weights(version)[1]
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def expected_top(files: list[bytes], version: int) -> list[list[tuple[str, float]]]:
    """Labelled predictions of PNG files that have the model's size already."""
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files])
    scores = expected_scores(pixels.astype(np.float32) / 127.5 - 1, version)
    return [[(CLASSES[k], float(row[k])) for k in np.argsort(-row)] for row in scores]


class _Model(tf.Module):
    def __init__(self, version: int):
        super().__init__()
        hidden, head = weights(version)
        self.hidden, self.head = tf.Variable(hidden), tf.Variable(head)
        self.names = tf.constant(CLASSES)

    def _features(self, images):
        return tf.tanh(tf.reshape(images, (-1, SIDE_FEATURES)) @ self.hidden)

    def _scores(self, images):
        return tf.nn.softmax(self._features(images) @ self.head)

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="images")])
    def serving_default(self, images):
        return {"scores": self._scores(images)}

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="images")])
    def features(self, images):
        return {"features": self._features(images)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def serving_bytes(self, image_bytes):
        def decode(data):
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
            image = tf.image.resize(image, (SIZE, SIZE))
            return tf.ensure_shape(image, (SIZE, SIZE, 3)) / 127.5 - 1

        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
        scores, classes = tf.math.top_k(self._scores(images), k=len(CLASSES))
        return {"classes": classes, "scores": scores, "labels": tf.gather(self.names, classes)}

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="images"),
            tf.TensorSpec((None,), tf.float32, name="weight"),
        ]
    )
    def weighted(self, images, weight):
        return {"scores": self._scores(images) * weight[:, tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="data")])
    def echo(self, data):
        return {"echo_bytes": data, "echo": data, "length": tf.strings.length(data)}


SIGNATURES = ("serving_default", "serving_bytes", "features", "weighted", "echo")


def write_version(base_path: Path, version: int) -> Path:
    """Writes `base_path/version` as an export does: beside it first, then moved into place at once."""
    model = _Model(version)
    base_path.mkdir(parents=True, exist_ok=True)
    hidden = base_path / f".{version}.partial"
    signatures = {name: getattr(model, name) for name in SIGNATURES}
    tf.saved_model.save(model, str(hidden), signatures=signatures)
    return hidden.rename(base_path / str(version))


def png(seed: int, height: int = SIZE, width: int = SIZE) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def images(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, size=(count, SIZE, SIZE, 3)).astype(np.float32)


def write_bundle(folder: Path) -> Path:
    """Versions 1 and 2 with labels, and the configuration files that a TF Serving serves them by."""
    for version in LABELS.values():
        write_version(folder / NAME, version)
    labels = "".join(f'version_labels {{ key: "{label}" value: {version} }}\n' for label, version in LABELS.items())
    (folder / "models.config").write_text(
        "model_config_list { config {\n"
        f'name: "{NAME}" base_path: "{(folder / NAME).absolute()}" model_platform: "tensorflow"\n'
        f"model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}\n{labels}}} }}\n"
    )
    (folder / "monitoring.config").write_text(
        'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'
    )
    return folder


if __name__ == "__main__":
    write_bundle(Path(sys.argv[1]))
