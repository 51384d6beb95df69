"""The variants of Mixer's siblings: the part of `keras_mixer.applications` that is not a Mixer."""

from keras_mixer.constructors import Constructor, Constructors
from keras_mixer.models.catalogue import preprocessing_of as preprocessing_of

CONSTRUCTORS = Constructors(lambda architecture: architecture.name != "mixer")


def __getattr__(name: str) -> Constructor:
    return CONSTRUCTORS.named(name)
