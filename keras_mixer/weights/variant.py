"""Which published variant a model is."""

from keras_mixer.models import VARIANTS
from keras_mixer.weights.token_weights import stem_of


def variant_of(model) -> str:
    """Returns the name of the variant whose sizes `model` has, as "mixer_b16".

    Neither the image size nor `tokens_mlp_dim` counts, for a change of resolution may change them.

    Raises:
        ValueError: If the model has the sizes of no variant.
    """
    stem = stem_of(model)
    blocks = [layer for layer in model.layers if hasattr(layer, "channels_mlp_dim")]
    for name, variant in VARIANTS.items():
        if (
            tuple(stem.patch_size) == (variant.patch_size, variant.patch_size)
            and stem.hidden_dim == variant.hidden_dim
            and len(blocks) == variant.num_blocks
            and {block.channels_mlp_dim for block in blocks} == {variant.channels_mlp_dim}
        ):
            return name
    raise ValueError(
        f"The model {model.name!r} has the sizes of no published variant ({', '.join(VARIANTS)}): "
        "load its weights from a file, by its path, which ends in .npz, .safetensors, .weights.h5 or .keras."
    )
