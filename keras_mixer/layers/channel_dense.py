"""A linear map over channels."""

import keras

from keras_mixer.layers.rows import as_rows, like


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelDense(keras.layers.Dense):
    """A `keras.layers.Dense` that multiplies all rows at once, whatever the axes before the channels.

    Keras's own takes a product for each sample, which some runtimes do slowly.
    """

    def call(self, inputs, training=None):
        return like(inputs, super().call(as_rows(inputs), training=training))
