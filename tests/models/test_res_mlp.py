import math

import family
import goldens
import numpy as np
import pytest

from keras_mixer import models


@pytest.mark.backends
def test_a_block_is_the_papers_formula():
    """Equations 1 to 3 of ResMLP in NumPy, for tokens and channels at once."""
    rng = np.random.default_rng(0)
    model = family.randomised(family.model("resmlp", num_blocks=1, include_top=False))
    weights = {variable.path: np.array(variable) for variable in model.weights}
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    patches = images.reshape(2, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, -1)
    tokens = patches @ weights["stem/kernel"].reshape(-1, 16) + weights["stem/bias"]

    def affine(x, name):
        return x * weights[f"{name}/scale"] + weights.get(f"{name}/bias", 0.0)

    mixed = np.einsum("btc,tu->buc", affine(tokens, "block_0_affine_0"), weights["block_0_token_linear/kernel"])
    mixed = mixed + weights["block_0_token_linear/bias"][:, None]
    tokens = tokens + affine(mixed, "block_0_layer_scale_0")
    hidden = affine(tokens, "block_0_affine_1") @ weights["block_0_channel_mlp/Dense_0/kernel"]
    hidden = hidden + weights["block_0_channel_mlp/Dense_0/bias"]
    erf = np.vectorize(math.erf)
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    mixed = hidden @ weights["block_0_channel_mlp/Dense_1/kernel"] + weights["block_0_channel_mlp/Dense_1/bias"]
    tokens = tokens + affine(mixed, "block_0_layer_scale_1")
    expected = affine(tokens, "pre_head_affine")
    np.testing.assert_allclose(goldens.outputs(model, images), expected, rtol=1e-3, atol=1e-4)


def test_branches_start_small():
    model = models.build("res_mlp_24", num_blocks=1, hidden_dim=8, input_shape=(32, 32, 3))
    np.testing.assert_allclose(np.array(model.get_layer("block_0_layer_scale_0").scale), 1e-5)


def test_the_patch_must_divide_the_image():
    with pytest.raises(ValueError, match="multiple of the patch size"):
        family.model("resmlp", input_shape=(30, 32, 3))
