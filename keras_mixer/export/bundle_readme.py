"""The README of a TF Serving bundle: the exact calls, filled in with the model's name."""

from keras_mixer.export.manifests import GRPC_PORT, IMAGE, REST_PORT

_TEMPLATE = """\
# {name} on TensorFlow Serving

All that {image} needs to serve `{name}`. Versions: {versions}. Labels: {labels}.

| file | what it is |
|---|---|
| `models/{name}/<version>/` | SavedModels; class names and preprocessing in `assets/`, warm-up in `assets.extra/` |
| `models.config` | which versions are served, and the labels `stable` and `canary` |
| `batching_parameters.txt` | how requests that wait together are run together |
| `monitoring.config` | Prometheus metrics |
| `compose.yaml` | one server on this machine |
| `Dockerfile`, `kubernetes/` | an image that holds this bundle; Deployment, Service and HorizontalPodAutoscaler |

## Start

On this machine:

```sh
docker compose up --detach --wait
```

On a cluster (push the image to a registry that the cluster reads, and name it in `kubernetes/deployment.yaml`):

```sh
docker build --tag {image_name} .
kubectl apply --filename kubernetes/
```

The next export writes `models.config`, its labels apart, and this page anew. Any other file that you have edited stays;
what it would have become, with the image's new tag, is in `FILE.new` beside it.

The files follow TensorFlow Serving's formats; writing them did not start a server. Look at the status first:

```sh
curl http://localhost:{rest}/v1/models/{name}
curl http://localhost:{rest}/v1/models/{name}/metadata
curl http://localhost:{rest}/monitoring/prometheus/metrics
```

## Ask

An image file, JPEG, PNG or GIF, is decoded, resized and scaled on the server:

```sh
IMAGE=$(base64 < image.png | tr -d '\\n')
echo '{{"signature_name": "serving_bytes",' "\\"instances\\": [{{\\"image_bytes\\": {{\\"b64\\": \\"$IMAGE\\"}}}}]}}" |
  curl --data @- http://localhost:{rest}/v1/models/{name}:predict
```

The answer lists `classes`, `scores` and `labels`, best first. `/v1/models/{name}/labels/canary:predict` asks the newest
version, `/labels/stable:predict` the one that has proved itself, `/versions/{newest}:predict` one by its number.

The same in Python, over REST:

```python
import base64, requests

with open("image.png", "rb") as file:
    image = base64.b64encode(file.read()).decode()
answer = requests.post(
    "http://localhost:{rest}/v1/models/{name}/labels/stable:predict",
    json={{"signature_name": "serving_bytes", "inputs": {{"image_bytes": [{{"b64": image}}]}}}},
    timeout=30,
)
answer.raise_for_status()
print(answer.json()["outputs"])
```

Over gRPC (`pip install tensorflow`, then `pip install --no-deps tensorflow-serving-api`):

```python
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = "{name}"
request.model_spec.signature_name = "serving_bytes"
request.model_spec.version_label = "stable"
with open("image.png", "rb") as file:
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([file.read()]))
with grpc.insecure_channel("localhost:{grpc}") as channel:
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
print({{name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}})
```

With keras_mixer:

```python
from keras_mixer.serving import Client

print(Client("http://localhost:{rest}", model="{name}", label="stable").predict(["image.png"]))
```

Images that are preprocessed already go to the signature `serving_default`: `images`, float32
`(batch, {height}, {width}, {channels})`, gives `scores`. The signature `features` gives the features before the head.

## Know

- An image that cannot be decoded makes its request fail with status 400. Where requests are batched, TensorFlow
  Serving gives the error to every request of the same batch: check images before you send them, or start the server
  without `--enable_batching`.
- An EXIF orientation is not applied: a phone's photo may be read on its side. Turn it first, for example by
  `PIL.ImageOps.exif_transpose`.
- A new export with `--serving` adds its version here and labels it `canary`; `stable` stays where it is. When the
  canary has proved itself, move `stable` to it in `models.config` by hand. Compose's server reads this file again every
  30 seconds.
- On Kubernetes, versions and `models.config` are part of the image: what changes here reaches no pod, whether by an
  export or by hand, before you build the image under a **new tag** (such as `{image_name}-stable`), push it, name it in
  `kubernetes/deployment.yaml` and apply this again. Under the old tag, nodes go on with the image that they have.
- Compose binds the ports to this machine: TensorFlow Serving has no authentication of its own.
"""


def bundle_readme(
    name: str, labels: dict[str, int], served: list[int], image_name: str, input_shape: tuple[int, int, int]
) -> str:
    """Fills in the README of a bundle."""
    height, width, channels = input_shape
    return _TEMPLATE.format(
        name=name,
        image=IMAGE,
        image_name=image_name,
        versions=", ".join(map(str, served)),
        labels=", ".join(f"`{label}` is version {version}" for label, version in labels.items()),
        newest=max(labels.values()),
        rest=REST_PORT,
        grpc=GRPC_PORT,
        height=height,
        width=width,
        channels=channels,
    )
