"""Constructors of all variants, such as `MixerB16(...)`, with random, published or your own weights."""

from keras_mixer.constructors import CONSTRUCTORS, Constructor


def __getattr__(name: str) -> Constructor:
    return CONSTRUCTORS.named(name)
