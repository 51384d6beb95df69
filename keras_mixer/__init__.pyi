from . import layers as layers
from . import models as models
from .models.mixer import Mixer as Mixer
