"""A model that computes in half precision, made one that computes in float32, as other runtimes need it."""

import keras


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the model with every layer computing in float32, or the model itself if they all do.

    LiteRT and ONNX have no bfloat16 form of some operations, and choose their own precision when they run.

    Args:
        model: A functional model, of any dtype policies.

    Returns:
        A functional model with the same weights.
    """
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float32")  # of layers whose configuration names none
        rebuilt = type(model).from_config(_with_float32_policies(model.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    rebuilt.set_weights([keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")) for weight in model.weights])
    return rebuilt


def _with_float32_policies(config):
    """A copy of a layer's configuration, with every dtype policy in it, at any depth, replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _with_float32_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32_policies(value) for value in config)
    return config
