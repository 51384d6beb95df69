"""A Mixer in Flax, as the paper's appendix writes it, under jax.jit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from sizes import CLASSES, SIZES
from workers.jax_clock import matmul_flops


class MlpBlock(nn.Module):
    """Dense, GELU, Dense."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        hidden = nn.gelu(nn.Dense(self.width, dtype=self.dtype)(x))
        return nn.Dense(x.shape[-1], dtype=self.dtype)(hidden)


class FlaxMixer(nn.Module):
    """Stem, blocks, norm, mean, head."""

    size: tuple
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images):
        blocks, patch, hidden, tokens_mlp, channels_mlp, _ = self.size
        x = nn.Conv(hidden, (patch, patch), strides=(patch, patch), padding="VALID", dtype=self.dtype)(images)
        x = x.reshape(x.shape[0], -1, hidden)
        for _ in range(blocks):
            y = nn.LayerNorm(dtype=self.dtype)(x).swapaxes(1, 2)
            x = x + MlpBlock(tokens_mlp, self.dtype)(y).swapaxes(1, 2)
            x = x + MlpBlock(channels_mlp, self.dtype)(nn.LayerNorm(dtype=self.dtype)(x))
        return nn.Dense(CLASSES)(nn.LayerNorm(dtype=self.dtype)(x).mean(axis=1))


def prepare(row):
    """The step of the row and the matmul rate beside it."""
    dtype = jnp.dtype(row["dtype"])
    side = SIZES[row["variant"]][-1]
    model = FlaxMixer(SIZES[row["variant"]], dtype)
    images = jax.random.normal(jax.random.key(0), (row["batch"], side, side, 3))
    parameters = model.init(jax.random.key(1), images[:1])
    peak = matmul_flops(dtype, gpu=row["options"].get("device") == "gpu")
    if row["task"] == "inference":
        parameters = jax.tree.map(lambda leaf: leaf.astype(dtype), parameters)
        forward = jax.jit(model.apply)
        return lambda: jax.block_until_ready(forward(parameters, images)) is None, peak

    labels = jax.random.randint(jax.random.key(2), (row["batch"],), 0, CLASSES)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.1))
    state = [parameters, optimizer.init(parameters)]

    def loss(parameters):
        logits = model.apply(parameters, images).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def update(parameters, moments):
        updates, moments = optimizer.update(jax.grad(loss)(parameters), moments, parameters)
        return optax.apply_updates(parameters, updates), moments

    def step():
        state[:] = jax.block_until_ready(update(*state))

    return step, peak
