"""gMLP's weights as timm names them."""

from keras_mixer.weights.torch_names import LEAF, NORM_LEAF, Rule, convolution, dense, same

SIGNATURE = r"blocks\.\d{1,4}\.mlp_channels\.gate\.proj\.weight"

RULES: tuple[Rule, ...] = (
    (r"stem\.proj\.(weight|bias)", lambda m: f"stem/{LEAF[m[1]]}", convolution),
    (r"blocks\.(\d{1,4})\.norm\.(weight|bias)", lambda m: f"block_{m[1]}_norm/{NORM_LEAF[m[2]]}", same),
    (
        r"blocks\.(\d{1,4})\.mlp_channels\.fc([12])\.(weight|bias)",
        lambda m: f"block_{m[1]}_dense_{int(m[2]) - 1}/{LEAF[m[3]]}",
        dense,
    ),
    (
        r"blocks\.(\d{1,4})\.mlp_channels\.gate\.norm\.(weight|bias)",
        lambda m: f"block_{m[1]}_gate/norm/{NORM_LEAF[m[2]]}",
        same,
    ),
    (
        r"blocks\.(\d{1,4})\.mlp_channels\.gate\.proj\.(weight|bias)",
        lambda m: f"block_{m[1]}_gate/projection/{LEAF[m[2]]}",
        dense,
    ),
    (r"norm\.(weight|bias)", lambda m: f"pre_head_layer_norm/{NORM_LEAF[m[1]]}", same),
    (r"head\.(weight|bias)", lambda m: f"head/{LEAF[m[1]]}", dense),
)
