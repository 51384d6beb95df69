"""ResMLP's weights as timm names them, and as the authors do."""

from keras_mixer.weights.torch_names import AFFINE_LEAF, LEAF, Rule, channels, convolution, dense

# Only ResMLP has a linear map over tokens, or the authors' affine norms.
SIGNATURE = r"blocks\.\d{1,4}\.(linear_tokens\.weight|norm1\.alpha)"

RULES: tuple[Rule, ...] = (
    (r"(?:stem|patch_embed)\.proj\.(weight|bias)", lambda m: f"stem/{LEAF[m[1]]}", convolution),
    (
        r"blocks\.(\d{1,4})\.norm([12])\.(alpha|beta)",
        lambda m: f"block_{m[1]}_affine_{int(m[2]) - 1}/{AFFINE_LEAF[m[3]]}",
        channels,
    ),
    (
        r"blocks\.(\d{1,4})\.(?:linear_tokens|attn)\.(weight|bias)",
        lambda m: f"block_{m[1]}_token_linear/{LEAF[m[2]]}",
        dense,
    ),
    (
        r"blocks\.(\d{1,4})\.(?:ls|gamma_)([12])",
        lambda m: f"block_{m[1]}_layer_scale_{int(m[2]) - 1}/scale",
        channels,
    ),
    (
        r"blocks\.(\d{1,4})\.(?:mlp_channels|mlp)\.fc([12])\.(weight|bias)",
        lambda m: f"block_{m[1]}_channel_mlp/Dense_{int(m[2]) - 1}/{LEAF[m[3]]}",
        dense,
    ),
    (r"norm\.(alpha|beta)", lambda m: f"pre_head_affine/{AFFINE_LEAF[m[1]]}", channels),
    (r"head\.(weight|bias)", lambda m: f"head/{LEAF[m[1]]}", dense),
)
