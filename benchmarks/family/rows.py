"""What is compared: a published variant of each architecture, and a small one of equal size for CIFAR-10."""

import dataclasses

from keras_mixer.reported import reported


@dataclasses.dataclass(frozen=True)
class Row:
    """One architecture.

    Attributes:
        title: Name of the published variant in its paper.
        variant: Its name in `keras_mixer.models.ARCHITECTURES`.
        builder: Name of the builder in `keras_mixer.models`.
        small: Sizes of a model of about 0.6 million parameters on images of 32 px.
    """

    title: str
    variant: str
    builder: str
    small: dict

    @property
    def reported_top1(self) -> float:
        """ImageNet-1k accuracy in percent, trained from scratch at 224 px, as its paper or code reports."""
        rows = [row for row in reported(self.title) if (row.pretraining, row.image_size) == ("ImageNet", 224)]
        (accuracy,) = [row.imagenet for row in rows if "distilled" not in row.model]
        return accuracy


ROWS = (
    Row(
        "Mixer-B/16",
        "mixer_b16",
        "Mixer",
        dict(num_blocks=7, patch_size=4, hidden_dim=96, tokens_mlp_dim=48, channels_mlp_dim=384),
    ),
    Row("ResMLP-S24", "res_mlp_24", "ResMLP", dict(num_blocks=7, patch_size=4, hidden_dim=96, layer_scale=0.1)),
    Row("gMLP-S", "g_mlp_s", "GMLP", dict(num_blocks=6, patch_size=4, hidden_dim=96)),
    Row(
        "ConvMixer-768/32",
        "conv_mixer_768_32",
        "ConvMixer",
        dict(hidden_dim=256, num_blocks=8, kernel_size=5, patch_size=4),
    ),
    Row(
        "ViP-Small/7",
        "vision_permutator_small_7",
        "VisionPermutator",
        dict(layers=(6,), patch_size=4, hidden_dims=(96,), transitions=(False,), segment_dims=(8,), mlp_ratios=(3,)),
    ),
    Row(
        "CycleMLP-B2",
        "cycle_mlp_b2",
        "CycleMLP",
        dict(layers=(2, 2), hidden_dims=(64, 128), transitions=(True, False), mlp_ratios=(4, 4)),
    ),
)
BY_VARIANT = {row.variant: row for row in ROWS}
