"""`keras-mixer fewshot`: how well a model's features separate classes, learned from a few images of each."""

import click

from keras_mixer.cli.options import (
    PositiveNumber,
    corrupt_limit_option,
    data_dir_option,
    model_help,
    open_model,
    repeated,
    weights_option,
)
from keras_mixer.cli.output import json_option, show, start_keras


@click.command(epilog=model_help)
@click.argument("model")
@weights_option
@click.option("--dataset", metavar="NAME", help="TFDS name or folder; by default the card's.")
@click.option("--train-split", default="train", help="Split that the few images come from.")
@click.option("--test-split", help="Split to measure on; by default the card's, or test.")
@data_dir_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure only on the first N test images.")
@corrupt_limit_option("images of each split")
@repeated("--shots", type=click.IntRange(min=1), default=(1, 5, 10, 25), help="Images per class")
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Number of random choices of images.")
@click.option("--penalty", type=PositiveNumber(), default=2.0**10, help="Penalty of the ridge regression.")
@click.option("--sweep", is_flag=True, help="Try the penalties 2^-10 to 2^19 instead.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Images per call.")
@json_option
def command(
    model,
    weights,
    dataset,
    train_split,
    test_split,
    data_dir,
    limit,
    corrupt_limit,
    shots,
    seeds,
    penalty,
    sweep,
    batch_size,
    as_json,
):
    """Fit closed-form ridge regressions on the features of a few images per class, and measure them.

    This is the protocol of the paper: features are pre-logits, targets are 1 and -1, the penalty is 2^10.
    """
    start_keras()
    import numpy as np

    from keras_mixer import data
    from keras_mixer.evaluation import choose_shots, extract_features, feature_model, few_shot_probe, fewshot
    from keras_mixer.evaluation.split import labelled_batches, numbered_batches

    classifier, card = open_model(model, weights)
    if dataset is None and card.dataset is None:
        raise ValueError("The card names no dataset: give --dataset.")
    name = dataset or card.dataset.name
    own = card.dataset if card.dataset is not None and dataset in (None, card.dataset.name) else None
    spec = own or data.DatasetSpec(name, split="test")
    train = data.load(spec, split=train_split, data_dir=data_dir)
    test = data.load(spec, split=test_split, data_dir=data_dir)
    train = _without(train, test)
    classes = len(test.class_names)
    # The additional images replace those that cannot be read.
    choices = choose_shots(train.labels, classes, max(shots) + corrupt_limit, range(seeds))
    wanted = np.unique(np.concatenate([indices for choice in choices for indices in choice]))
    features, reading = feature_model(classifier), {"batch_size": batch_size, "corrupt_limit": corrupt_limit}
    numbered = numbered_batches(train.chosen(wanted), card.preprocessing, **reading)
    of_train, kept = extract_features(features, ((images, positions) for images, _, positions in numbered))
    read = wanted[kept]
    choices = [[np.searchsorted(read, indices[np.isin(indices, read)]) for indices in choice] for choice in choices]
    results = few_shot_probe(
        (of_train, train.labels[read]),
        extract_features(features, labelled_batches(test, card.preprocessing, limit=limit, **reading)),
        classes,
        shots=shots,
        penalties=fewshot.PENALTY_SWEEP if sweep else [penalty],
        choices=choices,
    )
    rows = [
        {"shots": r.shots, "penalty": r.penalty, "top-1 %": 100 * r.mean, "spread %": 100 * r.spread, "seeds": seeds}
        for r in results
    ]
    if as_json:
        rows = [{**row, "accuracies": list(r.accuracies)} for row, r in zip(rows, results, strict=True)]
    show(rows, title=f"{card.name} on {name}, split {test.spec.split}", as_json=as_json)


def _without(train, test):
    """Returns the training source without the images that are in the test source too."""
    import numpy as np

    tested = {test.location(index) for index in range(test.num_examples)}
    kept = [index for index in range(train.num_examples) if train.location(index) not in tested]
    if not kept:
        raise ValueError(
            f"All images of {train.spec.split} are in {test.spec.split} too: name other splits with --train-split and "
            f"--test-split."
        )
    return train if len(kept) == train.num_examples else train.chosen(np.array(kept))
