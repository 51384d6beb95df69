"""Sizes of the measured Mixers and the arithmetic of one step, without importing any framework."""

# num_blocks, patch_size, hidden_dim, tokens_mlp_dim, channels_mlp_dim, image side: table 1 of the paper.
SIZES = {
    "mixer_s16": (8, 16, 512, 256, 2048, 224),
    "mixer_b16": (12, 16, 768, 384, 3072, 224),
    "mixer_l16": (24, 16, 1024, 512, 4096, 224),
    "tiny": (2, 8, 32, 16, 64, 32),
}
CLASSES = 1000


def flops_per_image(variant: str, task: str) -> float:
    """Floating-point operations of the matrix products, two for a multiply-add; training costs three times as much."""
    blocks, patch, hidden, tokens_mlp, channels_mlp, image = SIZES[variant]
    tokens = (image // patch) ** 2
    stem = tokens * patch * patch * 3 * hidden
    block = 2 * hidden * tokens * tokens_mlp + 2 * tokens * hidden * channels_mlp
    multiply_adds = stem + blocks * block + hidden * CLASSES
    return 2.0 * multiply_adds * (3 if task == "training" else 1)
