"""A client of any TF Serving over REST or gRPC. It needs neither Keras nor a server library."""

from keras_mixer.serving.client.client import Client

__all__ = ["Client"]
