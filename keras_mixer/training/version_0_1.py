"""The names that version 0.1 gave to the fields of a recipe, and their present names."""

import functools

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
    """Moves every setting of a recipe's JSON object to its present place, and returns the object."""
    for old, new in MOVED.items():
        part, name = old.split(".")
        if isinstance(recipe.get(part), dict) and name in recipe[part]:
            *path, last = new.split(".")
            place = functools.reduce(lambda place, step: place.setdefault(step, {}), path, recipe)
            place[last] = recipe[part].pop(name)
    return recipe
