"""keras_cv_attention_models' MLP-Mixer, on the last TensorFlow with Keras 2."""

from sizes import SIZES
from workers.tensorflow_steps import inference


def prepare(row):
    """The inference step; kecam 1.4 names the variants MLPMixerB16 and so on."""
    import kecam

    name = "MLPMixer" + row["variant"].removeprefix("mixer_").upper()
    side = SIZES[row["variant"]][-1]
    model = getattr(kecam.mlp_mixer, name)(
        input_shape=(side, side, 3), num_classes=1000, classifier_activation=None, pretrained=None
    )
    return inference(model, row), None
