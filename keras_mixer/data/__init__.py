"""From datasets to batches: sources, preprocessing, augmentation, and the card of a trained model."""

from keras_mixer.card import ModelCard
from keras_mixer.data.augmentation import Augmentation
from keras_mixer.data.corrupt import CorruptImages, CorruptImagesError
from keras_mixer.data.evaluation_batches import evaluation_batches
from keras_mixer.data.sources import Source, load
from keras_mixer.data.trained_model import load_model, save_model
from keras_mixer.data.training_batches import training_batches
from keras_mixer.dataset import DatasetSpec
from keras_mixer.preprocessing import Preprocessing

__all__ = [
    "Augmentation",
    "CorruptImages",
    "CorruptImagesError",
    "DatasetSpec",
    "ModelCard",
    "Preprocessing",
    "Source",
    "evaluation_batches",
    "load",
    "load_model",
    "save_model",
    "training_batches",
]
