"""Classifying many images into parquet files that can be continued: on one machine, or on a Ray cluster."""

from keras_mixer.prediction.classify import Prediction, classify
from keras_mixer.prediction.find import find_images
from keras_mixer.prediction.job import Job, Part, predict_to_store
from keras_mixer.prediction.locations import Location, locate
from keras_mixer.prediction.model_files import check_card, fingerprint, packed, unpacked
from keras_mixer.prediction.ray_engine import RayWorkers, predict_on_ray
from keras_mixer.prediction.shards import FileShard, ParquetShard, Shard, left_over, names_by_table
from keras_mixer.prediction.store import PredictionStore

__all__ = [
    "FileShard",
    "Job",
    "Location",
    "ParquetShard",
    "Part",
    "Prediction",
    "PredictionStore",
    "RayWorkers",
    "Shard",
    "check_card",
    "classify",
    "find_images",
    "fingerprint",
    "left_over",
    "locate",
    "names_by_table",
    "packed",
    "predict_on_ray",
    "predict_to_store",
    "unpacked",
]
