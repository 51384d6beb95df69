"""Scores by OpenVINO's serving client: python ovms.py PROTOCOL ADDRESS IMAGES, printed as JSON."""

import json
import sys

import numpy as np

protocol, address, images = *sys.argv[1:3], np.load(sys.argv[3])["images"]
if protocol == "grpc":
    from ovmsclient import make_grpc_client as make_client
else:
    from ovmsclient import make_http_client as make_client
# Its default version is 0, which OpenVINO's server takes for the newest and TF Serving does not.
client = make_client(address)
assert client.get_model_status("nano", 1)[1]["state"] == "AVAILABLE"
if protocol == "grpc":  # by REST it expects the spelling of OpenVINO's server
    assert client.get_model_metadata("nano", 1)["inputs"]["images"]["shape"] == [-1, 32, 32, 3]
print("\n" + json.dumps(np.asarray(client.predict({"images": images}, "nano", 1)).tolist()))
