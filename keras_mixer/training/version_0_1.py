"""The names that version 0.1 gave to the fields of a recipe, and where those settings are now."""

MOVED = {
    "data.dataset": "data.name",
    "data.resize": "preprocessing.resize",
    "model.image_size": "preprocessing.image_size",
    "model.channels": "preprocessing.channels",
    **{
        f"model.{name}": f"model.arguments.{name}"
        for name in (
            *("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"),
            *("stochastic_depth", "dropout", "untied", "channel_groups", "grouping", "tokens"),
        )
    },
}


def modernised(recipe: dict) -> dict:
    """Returns a recipe's JSON object with every setting in its present place."""
    recipe = {name: dict(value) if isinstance(value, dict) else value for name, value in recipe.items()}
    for old, new in MOVED.items():
        part, name = old.split(".")
        if isinstance(recipe.get(part), dict) and name in recipe[part]:
            value = recipe[part].pop(name)
            *path, last = new.split(".")
            place = recipe
            for step in path:
                place[step] = dict(place.get(step, {}))
                place = place[step]
            place[last] = value
    return recipe
