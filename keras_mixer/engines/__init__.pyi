from .choosing import open_engine as open_engine
from .table import ENGINES as ENGINES
from .table import PRECISIONS as PRECISIONS
from .table import Engine as Engine
