"""ConvMixer's weights as timm names them."""

from keras_mixer.weights.torch_names import BATCH_NORM_LEAF, LEAF, Rule, convolution, dense, depthwise, same

SIGNATURE = r"blocks\.\d{1,4}\.0\.fn\.0\.weight"

_STATISTIC = "(weight|bias|running_mean|running_var)"

RULES: tuple[Rule, ...] = (
    (r"stem\.0\.(weight|bias)", lambda m: f"stem/{LEAF[m[1]]}", convolution),
    (rf"stem\.2\.{_STATISTIC}", lambda m: f"stem_norm/{BATCH_NORM_LEAF[m[1]]}", same),
    (
        r"blocks\.(\d{1,4})\.0\.fn\.0\.(weight|bias)",
        lambda m: f"block_{m[1]}_depthwise/{LEAF[m[2]]}",
        depthwise,
    ),
    (
        rf"blocks\.(\d{{1,4}})\.0\.fn\.2\.{_STATISTIC}",
        lambda m: f"block_{m[1]}_depthwise_norm/{BATCH_NORM_LEAF[m[2]]}",
        same,
    ),
    (r"blocks\.(\d{1,4})\.1\.(weight|bias)", lambda m: f"block_{m[1]}_pointwise/{LEAF[m[2]]}", convolution),
    (
        rf"blocks\.(\d{{1,4}})\.3\.{_STATISTIC}",
        lambda m: f"block_{m[1]}_pointwise_norm/{BATCH_NORM_LEAF[m[2]]}",
        same,
    ),
    (r"head\.(weight|bias)", lambda m: f"head/{LEAF[m[1]]}", dense),
)
