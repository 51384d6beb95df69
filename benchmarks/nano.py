r"""Puts a run of the recipe `cifar10_nano` into the package, and measures what it is worth.

    python benchmarks/unpack_jpegs.py cifar10_jpeg.npz runs/cifar10_images --validation 2000
    keras-mixer train --recipe cifar10_nano --dataset ./runs/cifar10_images --output runs/nano \
        --set data.train_split=train --set data.eval_split=validation
    python -m benchmarks.nano runs/nano runs/cifar10_images

Only here is the test split read, after every choice: by the model, by its LiteRT files, and by the model that goes on
at 64 px. Writes weights, recipe, history and model card to keras_mixer/weights/shipped/, pictures of what the token
MLPs and the stem have learned to docs/, and what it says of the photographs in tests/data/cifar10 beside these. Only
the last, of the weights that are there:

    python -c "import keras_mixer, benchmarks.nano as n; n.record_scores(keras_mixer.MixerNano(weights='cifar10'))"
"""

import dataclasses
import datetime
import hashlib
import json
import pathlib
import shutil

import click
import numpy as np

from benchmarks.speed.table import machine

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PHOTOGRAPHS = DOCS.parent / "tests" / "data" / "cifar10"  # the first four of each class of the test split
FORMATS = ("litert", "litert_dynamic_int8", "litert_int8")
TITLES = dict(
    keras="Keras", litert="LiteRT float32", litert_dynamic_int8="LiteRT dynamic int8", litert_int8="LiteRT int8"
)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.option("--fine-epochs", default=1.0, show_default=True, help="Passes at 64 px.")
@click.option("--fine-rate", default=0.002, show_default=True, help="Greatest learning rate of them.")
@click.option("--work", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("runs/nano_measured"))
def main(run, images, fine_epochs, fine_rate, work):
    from keras_mixer.data import DatasetSpec, load_model
    from keras_mixer.evaluation import EvaluationSplit
    from keras_mixer.export import export
    from keras_mixer.training import Recipe, train
    from keras_mixer.weights import find
    from keras_mixer.weights.published.cache import cached_path

    model, card = load_model(run)
    recipe = Recipe.from_json((run / "recipe.json").read_text())
    fine = recipe.override(
        {
            "name": "cifar10_nano_64",
            "model.variant": "null",
            "model.weights": str(run.resolve()),
            "model.image_size": "[64, 64]",
            "schedule.epochs": str(fine_epochs),
            "schedule.steps": "null",
            "schedule.warmup_steps": "20",
            "optimizer.learning_rate": str(fine_rate),
            "batch_size": "128",
            # As the paper fine-tunes: crops and flips alone. An average over more steps than these few would hold the
            # weights back where they started.
            "augmentation.randaugment_layers": "0",
            "augmentation.mixup": "0.0",
            "augmentation.cutmix": "0.0",
            "ema_momentum": "null",
        }
    )
    train(fine, work / "px64", progress=True)
    larger, larger_card = load_model(work / "px64")
    test = DatasetSpec(str(images.resolve()), "test")
    reports = {
        "32 px": export(model, card, work / "exported32", FORMATS, dataset=test),
        "64 px": export(larger, larger_card, work / "exported64", FORMATS, dataset=test),
    }

    batches = EvaluationSplit(card, test, batch_size=500)
    shuffled = shuffled_accuracies(model, *map(np.concatenate, zip(*batches, strict=True)))
    draw(model, DOCS)

    weights = cached_path(find("mixer_nano", "cifar10"))
    ship(model, weights)
    record_scores(model)
    shutil.copy(run / "history.csv", weights.with_suffix(".csv"))
    # Where the images lay on the machine of the run is of no use to others.
    anywhere = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, name="./runs/cifar10_images"))
    weights.with_suffix(".json").write_text(anywhere.to_json())
    command = f"python -m benchmarks.nano RUN IMAGES --fine-epochs {fine_epochs:g} --fine-rate {fine_rate:g}"
    text = model_card(recipe, {"32 px": model, "64 px": larger}, reports, shuffled, command, fine_epochs)
    weights.with_suffix(".md").write_text(text)
    click.echo(text)


def ship(model, path: pathlib.Path) -> None:
    """Writes the weights and their hash."""
    from keras_mixer.download import write_digest
    from keras_mixer.weights import save_npz

    path.parent.mkdir(exist_ok=True)
    save_npz(model, path)
    write_digest(path, hashlib.sha256(path.read_bytes()).hexdigest())


def record_scores(model) -> None:
    """Writes what the model says of the tests' photographs, which the tests compare with what it says later."""
    from keras_mixer.data import DatasetSpec, Preprocessing, load
    from keras_mixer.evaluation import labelled_batches

    source = load(DatasetSpec(str(PHOTOGRAPHS), "test"))
    preprocessing = Preprocessing(tuple(model.input_shape[1:3]), resize="direct")
    ((images, _),) = labelled_batches(source, preprocessing, source.num_examples)
    scores = {
        pathlib.Path(source.location(index)).relative_to(PHOTOGRAPHS).as_posix(): [round(float(x), 6) for x in row]
        for index, row in enumerate(model.predict(images, verbose=0))
    }
    lines = ",\n".join(f"  {json.dumps(path)}: {json.dumps(row)}" for path, row in sorted(scores.items()))
    (PHOTOGRAPHS / "scores.json").write_text("{\n" + lines + "\n}\n")


def shuffled_accuracies(model, images: np.ndarray, labels: np.ndarray, patch: int = 4) -> dict[str, float]:
    """Accuracy on images whose patches, and pixels within each, are in another order, the same in all of them."""
    from keras_mixer.weights import permute

    rng = np.random.default_rng(0)
    side = images.shape[1] // patch
    patch_order, pixel_order = rng.permutation(side * side), rng.permutation(patch * patch)
    table = images.reshape(-1, side, patch, side, patch, 3).swapaxes(2, 3).reshape(-1, side * side, patch * patch, 3)
    table = table[:, patch_order][:, :, pixel_order]
    shuffled = table.reshape(-1, side, side, patch, patch, 3).swapaxes(2, 3).reshape(images.shape)

    def accuracy(classifier, inputs):
        return float(np.mean(classifier.predict(inputs, batch_size=500, verbose=0).argmax(axis=1) == labels))

    return {
        "as they are": accuracy(model, images),
        "shuffled": accuracy(model, shuffled),
        "shuffled, and the weights with them": accuracy(permute(model, patch_order, pixel_order), shuffled),
    }


def draw(model, folder: pathlib.Path) -> None:
    """Figures 5 and 7 of the paper for this model."""
    from keras_mixer import visualization

    units = {}
    for block in range(3):
        maps = visualization.token_mixing_units(model, block)
        units[f"MixerBlock_{block}"] = maps, visualization.pair_units(maps)
    visualization.save_figure(visualization.draw_token_units(units), folder / "mixer_nano_token_units.png")
    stem = visualization.draw_stem_units(visualization.stem_units(model))
    visualization.save_figure(stem, folder / "mixer_nano_stem_units.png")


def model_card(
    recipe, models: dict, reports: dict, shuffled: dict[str, float], command: str, fine_epochs: float
) -> str:
    """The card in Markdown; what is said of accuracy comes from the reports alone."""
    rows = [
        f"| {size} | {models[size].count_params():,} | {TITLES[row.artefact]} | {100 * row.top1:.2f} % | "
        f"{'' if row.drop is None else f'{row.drop:.2f}'} | {'' if row.bytes is None else f'{row.bytes / 1e6:.2f}'} |"
        for size, report in reports.items()
        for row in report.rows
    ]
    return "\n".join(
        [
            "# Mixer-Nano on CIFAR-10",
            "",
            f"Made by `{command}` on {datetime.date.today()}: {machine()}.",
            "",
            "A Mixer of 8 blocks, patches of 4 x 4 pixels, 128 channels and MLPs of 64 and 512 units that tells ten",
            "kinds of small photographs apart: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.",
            "",
            f"Training: {recipe.schedule.epochs:g} epochs from random weights on 48,000 of CIFAR-10's 50,000 training",
            "images, re-encoded as JPEG, no other data. The last 2,000 chose the settings; the test split was",
            "read once. The recipe is the `.json` file beside this one, its history the `.csv` file.",
            f"At 64 px: its weights by `change_resolution`, then {fine_epochs:g} epochs of crops and flips alone.",
            "",
            "| image | parameters | as | test accuracy | points lost | MB |",
            "|---:|---:|---|---:|---:|---:|",
            *rows,
            "",
            "Patches of all test images, and pixels in each patch, in one other order: without a position embedding or",
            "a convolution the order lies in the weights alone; moving them along undoes it (figure 4 of the paper).",
            "",
            "| test images | accuracy |",
            "|---|---:|",
            *[f"| {images} | {100 * share:.2f} % |" for images, share in shuffled.items()],
            "",
            "No test-time augmentation. A photograph is stretched to 32 x 32 pixels, so one subject that fills the",
            "picture is what it can name; it gives one of the ten names to anything else too.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
