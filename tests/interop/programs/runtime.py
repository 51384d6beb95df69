"""Scores of preprocessed images by a runtime: python runtime.py RUNTIME MODEL IMAGES, printed as JSON."""

import json
import sys

import numpy as np

runtime, path, images = *sys.argv[1:3], np.load(sys.argv[3])["images"]


def tflite(interpreter):
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        yield interpreter.get_tensor(target["index"])[0].tolist()


if runtime == "tflite_runtime":
    from tflite_runtime.interpreter import Interpreter

    scores = list(tflite(Interpreter(path)))
elif runtime == "ai_edge_litert":
    from ai_edge_litert.interpreter import Interpreter

    scores = list(tflite(Interpreter(path)))
elif runtime == "opencv":
    import cv2

    net = cv2.dnn.readNetFromONNX(path)
    scores = []
    for image in images:
        net.setInput(image[None])
        scores.append(net.forward()[0].tolist())
elif runtime == "onnxruntime":
    import onnxruntime

    scores = onnxruntime.InferenceSession(path).run(["scores"], {"images": images})[0].tolist()
elif runtime == "tensorflow":
    import tensorflow as tf

    scores = tf.saved_model.load(path).signatures["serving_default"](images=tf.constant(images))["scores"]
    scores = scores.numpy().tolist()
print("\n" + json.dumps(scores))
