"""A SavedModel made with this TensorFlow answers the same under others, where neither Keras nor keras_mixer is."""

import base64
import json
import subprocess
import sys
import venv

import digit_models
import numpy as np
import photographs
import pytest
import tensorflow as tf

SCRIPT = """
import base64, json, sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
inputs = np.load(sys.argv[2])
files = [base64.b64decode(text) for text in json.load(open(sys.argv[3]))]
answers = {
    "serving_default": loaded.signatures["serving_default"](images=tf.constant(inputs["images"])),
    "features": loaded.signatures["features"](images=tf.constant(inputs["images"])),
    "serving_bytes": loaded.signatures["serving_bytes"](image_bytes=tf.constant(files)),
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

    np.savez(tmp_path / "inputs.npz", images=digit_models.random_images(3))
    image, zoo = photographs.photograph(0, (30, 20)), photographs.zoo()
    # One photograph in every orientation, and the other formats that a graph reads.
    files = [photographs.encoded(image, "PNG", turn, late=turn > 4) for turn in photographs.ORIENTATIONS]
    files += [photographs.encoded(image, "JPEG", turn, "MM", late=turn > 4) for turn in photographs.ORIENTATIONS]
    files += [zoo[name] for name in ("cmyk.jpg", "clear.gif", "palette.bmp", "grey16.png", "trailing.png")]
    (tmp_path / "files.json").write_text(json.dumps([base64.b64encode(file).decode() for file in files]))

    def answers(interpreter):
        inputs = [str(tmp_path / "inputs.npz"), str(tmp_path / "files.json")]
        command = [interpreter, "-c", SCRIPT, str(exported / "1"), *inputs]
        # From another folder: the package itself must not be importable from the current one.
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        return json.loads(output.splitlines()[-1])

    here, there = answers(sys.executable), answers(python)
    assert here["tensorflow"] == tf.__version__
    assert (there["tensorflow"], there["modules"]) == (version, [])
    assert here["values"].keys() == there["values"].keys()
    for name, expected in here["values"].items():
        np.testing.assert_allclose(there["values"][name], expected, atol=1e-5, err_msg=name)
    scores = np.array(there["values"]["serving_bytes.scores"])
    np.testing.assert_allclose(scores[:8], np.repeat(scores[:1], 8, axis=0), atol=1e-6)
