"""Defaults that depend on the data, and checks of a recipe against its data.

A recipe leaves open splits called "auto", and the fields in `suited`, which depend on the number of images.
"""

import dataclasses
import math

from keras_mixer.data.sources import Source, split_sizes
from keras_mixer.data.sources.layout import (
    TEST,
    TRAIN,
    VALIDATION,
    FolderLayout,
    in_role,
    is_called_by_role,
    role,
    scan,
)
from keras_mixer.listing import plural
from keras_mixer.training.recipe import AUTO, DataSpec, Recipe

# Percentages of the training images to hold out. The first that holds out an image of every class is chosen.
HELD_OUT = (10, 20, 30, 40, 50)
# A batch is about a tenth of the images, so that an epoch makes about ten updates.
SMALLEST_BATCH, LARGEST_BATCH = 8, 512
# Each image is seen about thirty times, unless that takes fewer or more updates than these.
EPOCHS, FEWEST_STEPS, MOST_STEPS = 30, 200, 20_000
LONGEST_WARMUP = 500


def choose_splits(data: DataSpec, layout: FolderLayout | None = None) -> DataSpec:
    """Replaces splits called "auto" by splits of the dataset.

    Args:
        data: The recipe's data.
        layout: The layout of the folder, if the dataset is a folder; None scans it.

    Raises:
        ValueError: If there is no split to train on or to evaluate on.
    """
    if AUTO not in (data.train_split, data.eval_split, data.test_split):
        return data
    if layout is None and data.of(TRAIN).is_folder:
        layout = scan(data.name)
    sizes = split_sizes(data.of(TRAIN)) if layout is None else layout.sizes

    def found(role: str, field: str) -> str | None:
        splits = in_role(sizes, role)
        if len(splits) > 1:
            raise ValueError(
                f"{data.name} has several splits for one use, {' and '.join(splits)}: name one, such as with --set "
                f"data.{field}={splits[0]}."
            )
        return splits[0] if splits else None

    train, evaluation, test = data.train_split, data.eval_split, data.test_split
    whole = found(TRAIN, "train_split") if train == AUTO else train
    if whole is None:
        raise ValueError(f"{data.name} has no split to train on, only {', '.join(sizes)}: set data.train_split.")
    if evaluation == AUTO:
        evaluation = found(VALIDATION, "eval_split") or found(TEST, "eval_split") or AUTO
    if test == AUTO:
        test = found(TEST, "test_split")
        test = None if test == evaluation else test
    if evaluation == AUTO and train != AUTO:
        raise ValueError(f"{data.name} has no split to evaluate on, only {', '.join(sizes)}: set data.eval_split.")
    if evaluation == AUTO:
        held_out = _held_out(data, whole, sizes[whole], layout)
        whole, evaluation = f"{whole}[:{100 - held_out}%]", f"{whole}[{100 - held_out}%:]"
    return dataclasses.replace(data, train_split=whole, eval_split=evaluation, test_split=test)


def _held_out(data: DataSpec, split: str, images: int, layout: FolderLayout | None) -> int:
    """Chooses how many percent of the training images are held out."""
    if layout is None:
        return HELD_OUT[0]
    files = layout.files(split)
    several = sum(len(paths) > 1 for (name, _), paths in layout.images.items() if name == split)
    enough = [
        percent
        for percent in HELD_OUT
        if len({label for label, _ in files[round(images * (100 - percent) / 100) :]}) >= several > 0
    ]
    if not enough:
        raise ValueError(
            f"{images:,} images are too few to hold any out for evaluation: every class needs at least two. Add "
            f"images, or name a split with --set data.train_split={split} --set data.eval_split={split}, which "
            f"evaluates on the training images."
        )
    return enough[0]


def suit(recipe: Recipe, images: int, multiple: int = 1) -> tuple[Recipe, str]:
    """Chooses the fields in `recipe.suited` by the number of training images.

    Args:
        recipe: The recipe.
        images: Number of training images.
        multiple: The batch size is a multiple of this number, so that the devices can share a batch.

    Returns:
        The recipe with all fields set, and a sentence that says what was chosen and why.
    """
    batch, steps = recipe.batch_size, recipe.schedule.steps
    reasons = []
    if "batch_size" in recipe.suited:
        tenth = 2 ** int(math.log2(max(images / 10, 1)))
        batch = -(-min(max(tenth, SMALLEST_BATCH), LARGEST_BATCH) // multiple) * multiple
        why = "about a tenth of the images"
        if not SMALLEST_BATCH <= tenth <= LARGEST_BATCH:
            why = f"the {'smallest' if tenth < SMALLEST_BATCH else 'largest'} that is chosen"
        reasons.append(f"batches of {batch}, {why}")
    if "schedule.steps" in recipe.suited:
        steps = min(max(round(EPOCHS * images / batch), FEWEST_STEPS), MOST_STEPS)
        reasons.append(f"{steps:,} updates, which show each image {steps * batch / images:.0f} times")
    total = steps if steps is not None else max(1, round(float(recipe.schedule.epochs or 0) * images / batch))
    warmup, momentum = recipe.schedule.warmup_steps, recipe.ema_momentum
    if "schedule.warmup_steps" in recipe.suited:
        warmup = min(total // 10, LONGEST_WARMUP)
        reasons.append(f"a warm-up of {warmup}, a tenth of the run and at most {LONGEST_WARMUP}")
    if "ema_momentum" in recipe.suited:
        momentum = round(max(1 - 10 / total, 0.0), 4)
        reasons.append(f"an average with momentum {momentum:g}, over about a tenth of the run")
    chosen = dataclasses.replace(
        recipe,
        batch_size=batch,
        schedule=dataclasses.replace(recipe.schedule, steps=steps, warmup_steps=warmup),
        ema_momentum=momentum,
        suited=(),
    )
    return chosen, f"Chosen for {images:,} training images: {'; '.join(reasons)}." if reasons else ""


def check_length(recipe: Recipe, images: int, steps: int) -> None:
    """Raises ValueError, with advice, if warm-up or average are too long for a run of `steps` updates."""
    schedule, momentum = recipe.schedule, recipe.ema_momentum
    warmup, cooldown = schedule.warmup_steps, schedule.cooldown_steps
    if schedule.epochs is None:
        length, longer = f"the run has {plural(steps, 'update')}", "set schedule.steps higher"
    else:
        longer = "train longer, or set batch_size lower"
        length = (
            f"{images:,} training images in batches of {recipe.batch_size} make {plural(steps, 'update')} in "
            f"{schedule.epochs:g} epoch{'' if schedule.epochs == 1 else 's'}"
        )
    if cooldown and warmup + cooldown > steps:
        raise ValueError(
            f"schedule.warmup_steps and schedule.cooldown_steps are {warmup + cooldown:,} together, but {length}: set "
            f"them lower, or {longer}."
        )
    if warmup >= steps:
        raise ValueError(
            f"schedule.warmup_steps is {warmup:,}, but {length}: set it to {steps // 10}, or {longer}. "
            f"`--recipe finetune` suits the number of images."
        )
    if momentum and 1 / (1 - momentum) > steps:
        raise ValueError(
            f"ema_momentum={momentum:g} averages the weights over about {round(1 / (1 - momentum)):,} updates, but "
            f"{length}: set ema_momentum to {max(1 - 10 / steps, 0):.3g} or null, or {longer}. `--recipe finetune` "
            f"suits the number of images."
        )


def check_classes(source: Source) -> None:
    """Raises ValueError if a folder has one class alone, splits in place of classes, or a class without images."""
    layout = source.layout
    if layout is None:
        return
    if len(source.class_names) < 2:
        hint = "" if layout.divided else f" If its folders are the classes, name {layout.root}/{source.class_names[0]}."
        raise ValueError(
            f"A classifier needs two classes, but {layout.root} has one: {source.class_names[0]}.{hint} "
            f"{layout.left_out()}".rstrip()
        )
    if not layout.divided and TRAIN in (roles := [role(name) for name in source.class_names]) and all(roles):
        raise ValueError(
            f"{layout.root} has no classes: {' and '.join(source.class_names[:2])} are names of splits, but do not "
            f"hold the same class folders. Expected {layout.root}/{source.class_names[-1]}/CLASS/IMAGE.jpg. If they "
            f"are classes, move them into a folder {TRAIN}. {layout.left_out()}".rstrip()
        )
    if not layout.divided:
        _check_inner_folders(layout.root, layout.inner_folders())
    seen = {source.class_names[label] for label in set(source.labels.tolist())}
    missing = sorted({*source.class_names, *layout.empty} - seen)
    if missing:
        elsewhere = {name: [split for split, other in layout.images if other == name] for name in missing}
        named = [f"{name} (only in {', '.join(elsewhere[name])})" if elsewhere[name] else name for name in missing[:5]]
        raise ValueError(
            f"These classes have no image in the training split {source.spec.split} of {layout.root}: "
            f"{', '.join(named)}{', ...' if len(missing) > 5 else ''}. Add images, or remove the folders. "
            f"{layout.left_out()}".rstrip()
        )


def _check_inner_folders(root: str, inner: dict[str, set[str]]) -> None:
    """Raises ValueError if the folders that count as classes look like splits, or each of them holds splits."""
    for train in [name for name in inner if role(name) == TRAIN and is_called_by_role(name)]:
        for other in sorted(inner.keys() - {train}):
            if len(shared := sorted(inner[train] & inner[other])) > 1:
                raise ValueError(
                    f"{root} has no classes: {train} and {other} look like splits, because both hold {shared[0]} and "
                    f"{shared[1]}. Rename {other} to val or test. If they are classes, move them into a folder {TRAIN}."
                )
    roles = [{role(name) for name in names} - {None} for names in inner.values()]
    if all(TRAIN in found and len(found) > 1 for found in roles):
        name = min(inner)
        splits = " and ".join(f"{name}/{split}" for split in sorted(inner[name]))
        raise ValueError(
            f"{root} has splits inside its classes, such as {splits}, but a split holds classes: expected "
            f"{root}/{TRAIN}/{name}/IMAGE.jpg."
        )
