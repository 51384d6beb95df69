"""A SavedModel made with this TensorFlow answers the same under others, where neither Keras nor keras_mixer is."""

import json
import subprocess
import sys
import venv

import digit_models
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

pytestmark = pytest.mark.environments

SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
inputs = np.load(sys.argv[2])
answers = {
    "serving_default": loaded.signatures["serving_default"](images=tf.constant(inputs["images"])),
    "features": loaded.signatures["features"](images=tf.constant(inputs["images"])),
    "serving_bytes": loaded.signatures["serving_bytes"](image_bytes=tf.constant([inputs["png"].tobytes()])),
}
values = {
    f"{signature}.{name}": tensor.numpy().tolist()
    for signature, outputs in answers.items()
    for name, tensor in outputs.items()
    if tensor.dtype != tf.string
}
modules = [name for name in ("keras", "keras_mixer") if name in sys.modules]
print(json.dumps({"tensorflow": tf.__version__, "modules": modules, "values": values}))
"""


@pytest.mark.parametrize("version", ["2.20.0", "2.18.1"])
def test_another_tensorflow_gives_the_same_answers(version, exported, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", f"tensorflow-cpu=={version}"]
    subprocess.run(install, check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "keras"], check=True)

    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(tmp_path / "image.png")
    png = np.frombuffer((tmp_path / "image.png").read_bytes(), np.uint8)
    np.savez(tmp_path / "inputs.npz", images=digit_models.random_images(3), png=png)

    def answers(interpreter):
        command = [interpreter, "-c", SCRIPT, str(exported / "1"), str(tmp_path / "inputs.npz")]
        # From another folder: the package itself must not be importable from the current one.
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        return json.loads(output.splitlines()[-1])

    here, there = answers(sys.executable), answers(python)
    assert here["tensorflow"] == tf.__version__
    assert (there["tensorflow"], there["modules"]) == (version, [])
    assert here["values"].keys() == there["values"].keys()
    for name, expected in here["values"].items():
        np.testing.assert_allclose(there["values"][name], expected, atol=1e-5, err_msg=name)
