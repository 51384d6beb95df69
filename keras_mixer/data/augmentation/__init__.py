"""Augmentation in TensorFlow and in JAX: the crop and the steps of one image, and the mixing of a batch."""
