"""Classifies many images into parquet files, on one machine or on a Ray cluster. A run that stops can be resumed."""

from keras_mixer.artefacts import fingerprint, packed, unpacked
from keras_mixer.artefacts import load_card as check_card  # an earlier name, which callers may use
from keras_mixer.prediction.classify import Job, Part, Prediction, classify, predict_to_store
from keras_mixer.prediction.locations import Location, locate
from keras_mixer.prediction.ray_engine import RayWorkers, predict_on_ray
from keras_mixer.prediction.shards import FileShard, ParquetShard, Shard, find_images, left_over, names_by_table
from keras_mixer.prediction.store import PredictionStore
from keras_mixer.prediction.table import PredictionTable, is_table
