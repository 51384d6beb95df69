"""The package's Mixer as a LiteRT file, two threads."""

import pathlib
import tempfile

from ai_edge_litert.interpreter import Interpreter
from workers.package_mixer import build
from workers.tensorflow_steps import images_of

from keras_mixer.export import export_litert

PRECISIONS = {"float32": "float32", "dynamic int8": "dynamic_int8", "full int8": "int8"}
THREADS = 2


def prepare(row):
    """One call of the interpreter, the image handed over and the scores read included."""
    images = images_of(row)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        model = build({**row, "dtype": "float32"})
        export_litert(model, path, precision=PRECISIONS[row["dtype"]], samples=[images], batch_size=row["batch"])
        interpreter = Interpreter(model_content=path.read_bytes(), num_threads=THREADS)
    interpreter.allocate_tensors()
    given, scores = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def step():
        interpreter.set_tensor(given, images)
        interpreter.invoke()
        interpreter.get_tensor(scores)

    return step, None
