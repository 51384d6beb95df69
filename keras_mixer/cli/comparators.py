"""Architectures that learn from permuted images side by side: a Mixer, and ones that know about neighbours."""

NAMES = ("mixer", "convnet", "resnet50", "vit")
SMALLEST_RESNET_IMAGE = 32
# Keras's momentum of 0.99 needs hundreds of steps before a ResNet's running statistics can be evaluated with.
BATCH_NORM_MOMENTUM = 0.9


def builders(names, image_shape, patch_size: int, classes: int) -> dict:
    """Returns functions that build the named architectures for images of `image_shape`.

    Raises:
        ImportError: If "vit" is asked for and KerasHub is not installed.
    """
    makers = {"mixer": _mixer, "convnet": _convnet, "resnet50": _resnet50, "vit": _vit}
    if "vit" in names:
        _keras_hub()
    return {name: lambda make=makers[name]: make(image_shape, patch_size, classes) for name in names}


def _mixer(image_shape, patch_size, classes):
    import keras_mixer

    return keras_mixer.Mixer(
        num_blocks=3,
        patch_size=patch_size,
        hidden_dim=64,
        tokens_mlp_dim=64,
        channels_mlp_dim=128,
        input_shape=image_shape,
        classes=classes,
    )


def _convnet(image_shape, patch_size, classes):
    """A small plain convolutional network, for a comparison in seconds."""
    import keras

    images = keras.Input(image_shape)
    x = images
    for filters in (32, 64):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.GroupNormalization(8)(x))
        if min(x.shape[1:3]) > 2:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(x), name="convnet")


def _resnet50(image_shape, patch_size, classes):
    import keras

    images = keras.Input(image_shape)
    factor = max(1, -(-SMALLEST_RESNET_IMAGE // min(image_shape[:2])))
    x = keras.layers.UpSampling2D(factor)(images)
    body = keras.applications.ResNet50(weights=None, input_shape=tuple(x.shape[1:]), classes=classes)
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return keras.Model(images, body(x), name="resnet50")


def _vit(image_shape, patch_size, classes):
    """A ViT of the Mixer's depth and width."""
    import keras

    hub = _keras_hub()
    images = keras.Input(image_shape)
    backbone = hub.models.ViTBackbone(
        image_shape=tuple(image_shape),
        patch_size=patch_size,
        num_layers=3,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
    )
    tokens = backbone(images)  # (batch, 1 + patches, hidden_dim)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(tokens[:, 0]), name="vit")


def _keras_hub():
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError('The ViT comparator comes from KerasHub: pip install "keras_mixer[comparators]"') from error
    return keras_hub
