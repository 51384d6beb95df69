"""The variants of every architecture, with random, published or your own weights, such as `MixerB16(...)`."""

from keras_mixer.constructors import Constructor, Constructors

CONSTRUCTORS = Constructors(lambda architecture: True)


def __getattr__(name: str) -> Constructor:
    return CONSTRUCTORS.named(name)
