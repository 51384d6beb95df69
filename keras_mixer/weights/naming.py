"""The official name of every weight of a model."""


def named_weights(model) -> dict:
    """Returns the model's variables by official name: layer, sublayers, then `kernel`, `scale` or `bias`.

    Keras's `gamma` and `beta` of a normalisation are `scale` and `bias` in the official checkpoints. Seeds and
    metrics are not weights.

    Raises:
        ValueError: If the model has no weights yet, or two of one name.
    """
    weights: dict = {}
    for layer in model.layers:
        for variable in layer.weights:
            # A model built inside another carries the outer name in front.
            _, _, inner = variable.path.rpartition(f"{layer.name}/") if "/" not in layer.name else ("", "", "")
            name = f"{layer.name}/{_official_leaf(inner or variable.path)}"
            if name in weights:
                raise ValueError(f"The model has two weights of the name {name}.")
            weights[name] = variable
    if not weights:
        raise ValueError("The model has no weights: build it before its weights are loaded or saved.")
    return weights


def layers_before(model) -> frozenset[str]:
    """Returns the names of the layers whose outputs the layer `stem` reads: those of an `input_tensor` given."""
    import keras

    stem = next((layer for layer in model.layers if layer.name == "stem"), None)
    if stem is None or not getattr(model, "inputs", None):
        return frozenset()
    try:
        images = stem.input
    except (AttributeError, ValueError):  # called in several models, or in none
        return frozenset()
    return frozenset(layer.name for layer in keras.Model(model.inputs, images).layers)


def _official_leaf(path: str) -> str:
    head, slash, leaf = path.rpartition("/")
    return head + slash + {"gamma": "scale", "beta": "bias"}.get(leaf, leaf)


def numbered_to_named(arrays: dict, weights: dict) -> dict:
    """Renames `layer/.../0` of Keras's files to the name of that layer's first weight in the model, and so on.

    A number that the model has no weight for keeps its name.
    """
    members: dict[str, list[str]] = {}
    for name in weights:
        members.setdefault(name.rpartition("/")[0], []).append(name)
    renamed = {}
    for key, array in arrays.items():
        owner, _, number = key.rpartition("/")
        names = members.get(owner, [])
        known = number.isascii() and number.isdigit() and int(number) < len(names)
        renamed[names[int(number)] if known else key] = array
    return renamed
