"""What OpenVINO does to the process that runs it."""

import subprocess
import sys

import numpy as np
import openvino
from openvino import opset13

INTERRUPTED = """
import gc, signal, sys
import numpy as np
from keras_mixer.artefacts import open_artefact

images = np.ones((2, 4), np.float32)
first, second = open_artefact(sys.argv[1]), open_artefact(sys.argv[1])
assert first.scores(images).tolist() == second.scores(images).tolist() == [[1.0] * 4] * 2
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background may ignore Ctrl-C
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_works_after_models_were_closed(tmp_path):
    """OpenVINO 2026.4 ends the process with a segmentation fault if each model has a core of its own."""
    images = opset13.parameter([-1, 4], np.float32)
    openvino.save_model(openvino.Model([opset13.relu(images)], [images]), tmp_path / "model.xml")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, tmp_path / "model.xml"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
