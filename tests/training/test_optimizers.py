import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer.training.optimizers import AdamW, make_optimizer
from keras_mixer.training.recipe import OptimizerSpec


@pytest.fixture
def network():
    return keras_mixer.Mixer(
        num_blocks=1,
        patch_size=4,
        hidden_dim=8,
        tokens_mlp_dim=4,
        channels_mlp_dim=16,
        input_shape=(8, 8, 3),
        classes=3,
    )


def apply_gradients(network, spec, gradient, rate=0.1):
    """One update with the same gradient for every weight; returns the weights before and after, by path."""
    optimizer = make_optimizer(spec, rate, network)
    before = {variable.path: np.array(variable) for variable in network.trainable_variables}
    optimizer.apply([np.full(variable.shape, gradient, "float32") for variable in network.trainable_variables])
    return before, {variable.path: np.array(variable) for variable in network.trainable_variables}


def test_weight_decay_acts_on_kernels_alone_and_scales_with_the_rate(network):
    for variable in network.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    spec = OptimizerSpec(name="adamw", weight_decay=0.5, global_clipnorm=None)
    _, after = apply_gradients(network, spec, 0.0)
    kernels = {path for path in after if path.endswith("/kernel")}
    # Stem, two Dense layers in each of the two MLPs, head.
    assert len(kernels) == 6
    for path, value in after.items():
        np.testing.assert_allclose(value, 1.0 - 0.1 * 0.5 if path in kernels else 1.0, rtol=1e-6, err_msg=path)


def test_adam_moves_by_the_rate_first(network):
    before, after = apply_gradients(network, OptimizerSpec(name="adamw", global_clipnorm=None), 0.3)
    for path in before:
        # The bias-corrected first step of Adam is rate * sign(gradient).
        np.testing.assert_allclose(before[path] - after[path], 0.1, rtol=1e-5, err_msg=path)


def test_adamw_moves_as_that_of_keras(network):
    rng = np.random.default_rng(0)
    gradients = [
        [
            keras.ops.convert_to_tensor(rng.normal(size=weight.shape), "float32")
            for weight in network.trainable_variables
        ]
        for _ in range(3)
    ]
    start = [np.array(weight) for weight in network.trainable_variables]
    moved = []
    for optimizer in (AdamW(0.01, weight_decay=0.1), keras.optimizers.AdamW(0.01, weight_decay=0.1)):
        for weight, value in zip(network.trainable_variables, start, strict=True):
            weight.assign(value)
        optimizer.build(network.trainable_variables)
        for step in gradients:
            optimizer.apply(step, network.trainable_variables)
        moved.append([np.array(variable) for variable in (*network.trainable_variables, *optimizer.variables)])
    for ours, keras_own in zip(*moved, strict=True):
        # In float32, 1 - 0.999 is known to 6e-5 of its value, and so is each move of 0.01.
        np.testing.assert_allclose(ours, keras_own, rtol=1e-5, atol=1e-6)


def test_sgd_step_is_clipped_to_the_global_norm(network):
    before, after = apply_gradients(network, OptimizerSpec(name="sgd", global_clipnorm=0.5), 3.0, rate=1.0)
    squares = sum(float(np.sum((after[path] - before[path]) ** 2)) for path in before)
    assert np.sqrt(squares) == pytest.approx(0.5, rel=1e-5)


def test_sgd_keeps_momentum(network):
    optimizer = make_optimizer(OptimizerSpec(name="sgd", momentum=0.9, global_clipnorm=None), 1.0, network)
    head = network.get_layer("head").kernel
    for _ in range(2):
        optimizer.apply([np.ones(variable.shape, "float32") for variable in network.trainable_variables])
    np.testing.assert_allclose(np.array(head), -(1.0 + 1.9), rtol=1e-6)


def test_muon_turns_matrices_by_their_polar_factor_and_moves_the_rest_as_adam(network):
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=variable.shape).astype("float32") for variable in network.trainable_variables]
    before = [np.array(variable) for variable in network.trainable_variables]
    make_optimizer(OptimizerSpec(name="muon", momentum=0.0, global_clipnorm=None), 0.1, network).apply(gradients)
    matrices = 0
    for variable, old, gradient in zip(network.trainable_variables, before, gradients, strict=True):
        step = old - np.array(variable)
        if variable.path.startswith("head/") or gradient.ndim != 2:
            np.testing.assert_allclose(step, 0.1 * np.sign(gradient), rtol=1e-4, err_msg=variable.path)
            continue
        matrices += 1
        # G = U S V^T moves W by rate * 0.2 sqrt(max(n, m)) * U T V^T with T near 1: five Newton-Schulz steps leave it
        # between 0.68 and 1.13 (arXiv 2502.16982).
        left, _, right = np.linalg.svd(gradient, full_matrices=False)
        turned = left.T @ step @ right.T / (0.1 * 0.2 * np.sqrt(max(step.shape)))
        assert np.all((np.diag(turned) > 0.6) & (np.diag(turned) < 1.25)), variable.path
        np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-4, err_msg=variable.path)
    assert matrices == 4  # two Dense layers in each of the two MLPs


def test_the_settings_reach_keras(network):
    spec = OptimizerSpec(name="adamw", beta_1=0.8, beta_2=0.95, epsilon=1e-5, weight_decay=0.2, global_clipnorm=2.0)
    optimizer = make_optimizer(spec, 0.1, network, ema_momentum=0.7)
    config = optimizer.get_config()
    assert [
        config[name] for name in ("beta_1", "beta_2", "epsilon", "weight_decay", "global_clipnorm", "ema_momentum")
    ] == [*(0.8, 0.95, 1e-5, 0.2, 2.0, 0.7)]
    assert config["use_ema"] is True


def test_an_unknown_optimizer_is_refused(network):
    with pytest.raises(ValueError, match="'adamw', 'muon' or 'sgd', but got 'lamb'"):
        make_optimizer(OptimizerSpec(name="lamb"), 0.1, network)
