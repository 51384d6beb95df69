"""The constructors of Mixer's siblings, under the name that version 0.1 gave them; see `keras_mixer.applications`."""

from keras_mixer.constructors import CONSTRUCTORS, Constructor
from keras_mixer.models.catalogue import preprocessing_of as preprocessing_of


def __getattr__(name: str) -> Constructor:
    return CONSTRUCTORS.named(name)
