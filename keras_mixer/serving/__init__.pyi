from .client import Client as Client
from .errors import ServingError as ServingError
from .server import Batching as Batching
from .server import Limits as Limits
from .server import ModelConfig as ModelConfig
from .server import Server as Server
from .server import read_batching_parameters as read_batching_parameters
from .server import read_model_config as read_model_config

__all__ = [
    "Batching",
    "Client",
    "Limits",
    "ModelConfig",
    "Server",
    "ServingError",
    "read_batching_parameters",
    "read_model_config",
]
