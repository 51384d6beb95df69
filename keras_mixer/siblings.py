"""The variants of Mixer's siblings: the part of `keras_mixer.applications` that is not a Mixer."""

from collections.abc import Iterator, Mapping

from keras_mixer import applications
from keras_mixer.models import ARCHITECTURES, VARIANTS
from keras_mixer.models.catalogue import preprocessing_of as preprocessing_of


class _Siblings(Mapping[str, applications.Constructor]):
    def __getitem__(self, variant: str) -> applications.Constructor:
        if variant in VARIANTS:
            raise KeyError(variant)
        return applications.CONSTRUCTORS[variant]

    def __iter__(self) -> Iterator[str]:
        return (variant for variant in ARCHITECTURES if variant not in VARIANTS)

    def __len__(self) -> int:
        return sum(1 for _ in self)


CONSTRUCTORS: Mapping[str, applications.Constructor] = _Siblings()


def __getattr__(name: str) -> applications.Constructor:
    return getattr(applications, name)
