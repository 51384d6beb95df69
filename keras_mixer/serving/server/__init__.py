"""A small server of TF Serving's REST and gRPC, for development and tests."""

from keras_mixer.serving.server.config import (
    Batching,
    Limits,
    ModelConfig,
    read_batching_parameters,
    read_model_config,
)
from keras_mixer.serving.server.server import Server

__all__ = ["Batching", "Limits", "ModelConfig", "Server", "read_batching_parameters", "read_model_config"]
