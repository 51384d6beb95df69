"""What MediaPipe's ImageClassifier makes of photographs: python mediapipe_tasks.py MODEL FILES, printed as JSON."""

import json
import pathlib
import sys

import mediapipe
import numpy as np
from mediapipe.tasks import python
from mediapipe.tasks.python import vision
from PIL import Image

options = vision.ImageClassifierOptions(base_options=python.BaseOptions(model_asset_path=sys.argv[1]))
found = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for file in pathlib.Path(sys.argv[2]).read_text().splitlines():
        pixels = np.asarray(Image.open(file).convert("RGB"))
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        (result,) = classifier.classify(image).classifications
        found.append({category.category_name: category.score for category in result.categories})
print("\n" + json.dumps(found))
