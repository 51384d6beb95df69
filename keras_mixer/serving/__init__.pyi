from .client.client import Client as Client
from .errors import ServingError as ServingError
from .server.config import Batching as Batching
from .server.config import Limits as Limits
from .server.config import ModelConfig as ModelConfig
from .server.server import Server as Server
from .server.config import read_batching_parameters as read_batching_parameters
from .server.config import read_model_config as read_model_config

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
