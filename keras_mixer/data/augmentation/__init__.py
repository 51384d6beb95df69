"""Augmentation in TensorFlow: the steps of one image, RandAugment, and the mixing of a batch."""
