from .client import Client as Client
from .config import Batching as Batching
from .config import Limits as Limits
from .config import ModelConfig as ModelConfig
from .config_files import read_batching_parameters as read_batching_parameters
from .config_files import read_model_config as read_model_config
from .errors import ServingError as ServingError
from .server import Server as Server

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
