"""`keras-mixer visualize`: what a Mixer has learned, as pictures."""

import dataclasses
import pathlib

import click

from keras_mixer.cli.options import model_help, open_model, repeated, weights_option
from keras_mixer.cli.output import json_option, show
from keras_mixer.files import strict_json

EXAMPLES = 4
BLOCKS = 3


@click.command(epilog=model_help)
@click.argument("model")
@weights_option
@click.option("--output", type=click.Path(file_okay=False), required=True, help="Folder for the pictures.")
@repeated("--block", "blocks", type=int, help="Block to draw, counted from 0, by default the first three")
@repeated("--image", "images", type=click.Path(exists=True, dir_okay=False), help="Image to analyse")
@repeated("--token", "tokens", type=click.IntRange(min=0), help="Patch whose influences are drawn")
@click.option("--format", "suffix", type=click.Choice(["png", "svg"]), default="png", help="Format of the pictures.")
@json_option
def command(model, weights, output, blocks, images, tokens, suffix, as_json):
    """Draw the units of the token-mixing MLPs and of the stem, and what the model uses in images.

    token_units shows hidden units in pairs of opposite phase (figure 5 of the paper); token_units.json lists the pairs.
    stem_units shows the stem (figure 7). The other pictures show your images, or the first images of the model's
    dataset: influence (the patches that influence a patch), features (principal components of the tokens), and three
    maps of the evidence for the best class: occlusion (where covering lowers the score), grad_cam and
    integrated_gradients. attribution.npz holds the values of these three, which are drawn for other architectures too.
    """
    import numpy as np

    opened, card = open_model(model, weights)
    from keras_mixer import visualization
    from keras_mixer.visualization.parts import block_of, blocks_on_patches, keeps_tokens

    scale = {"preprocessing": card.preprocessing}
    readers = blocks_on_patches(opened)
    drawn = {block_of(opened, block).name: block for block in blocks or readers[:BLOCKS]}
    photos = _photos(card, images)
    folder = pathlib.Path(output)
    written = []

    def save(figure, name: str) -> None:
        written.append(visualization.save_figure(figure, folder / f"{name}.{suffix}"))

    if not drawn and not len(photos):
        raise ValueError(f"The model {opened.name!r} has no Mixer blocks to draw: give an --image.")
    if drawn:
        units = {name: visualization.token_mixing_units(opened, block) for name, block in drawn.items()}
        paired = {name: (maps, visualization.pair_units(maps)) for name, maps in units.items()}
        save(visualization.draw_token_units(paired), "token_units")
        pairing = {}
        for name, (_, pairs) in paired.items():
            fields = dataclasses.asdict(pairs)
            pairing[name] = {"pairs": fields.pop("units"), **fields}
        written.append(folder / "token_units.json")
        written[-1].write_text(strict_json(pairing) + "\n", encoding="utf-8")
        save(visualization.draw_stem_units(visualization.stem_units(opened)), "stem_units")

    # If a block changes the number of tokens, its outputs no longer match patches of the photo.
    on_photos = [name for name, block in drawn.items() if keeps_tokens(opened, block)]
    for number, photo in enumerate(photos):
        mark = f"{number}" if len(photos) > 1 else ""
        if on_photos:
            asked = list(tokens) or _spread_tokens(opened)
            maps = visualization.influence_maps(opened, photo, drawn[on_photos[0]], asked)
            save(visualization.draw_influence(photo, maps, asked, on_photos[0], **scale), f"influence{mark}")
        best = int(opened.predict_on_batch(photo[None])[0].argmax())
        title = card.class_names[best] if card.class_names else f"class {best}"
        attributions = {
            "occlusion": visualization.occlusion_saliency(opened, photo, best, **scale),
            "grad_cam": visualization.grad_cam(opened, photo, best),
            "integrated_gradients": visualization.integrated_gradients(opened, photo, best, **scale),
        }
        for name, values in attributions.items():
            label = "fall of the score" if name == "occlusion" else name.replace("_", " ")
            save(visualization.draw_attribution(photo, values, title, label=label, **scale), f"{name}{mark}")
        written.append(folder / f"attribution{mark}.npz")
        np.savez(written[-1], **attributions)  # type: ignore[arg-type]
    if len(photos) and on_photos:
        pca = visualization.feature_pca(opened, photos, drawn[on_photos[-1]])
        save(visualization.draw_feature_pca(photos, pca, on_photos[-1], **scale), "features")
    show([{"file": str(path)} for path in written], as_json=as_json)


def _photos(card, paths):
    """Returns the given photos, or the first images of the card's dataset, as inputs of the model."""
    import numpy as np

    if paths:
        from keras_mixer.data.arrays import preprocess, reader

        read = reader(card.preprocessing)

        def photo(path: str):
            try:
                return preprocess(read(pathlib.Path(path).read_bytes()), card.preprocessing)
            except ValueError as error:
                raise ValueError(f"{path} cannot be read: {error}.") from error

        return np.stack([photo(path) for path in paths])
    if card.dataset is None:
        return np.empty((0, *card.preprocessing.input_shape), "float32")
    from keras_mixer import data, evaluation

    source = data.load(card.dataset)
    batches = evaluation.labelled_batches(source, card.preprocessing, EXAMPLES, corrupt_limit=source.num_examples - 1)
    return next(batches)[0]


def _spread_tokens(model) -> list[int]:
    """Returns a corner, the middle, and a token between them."""
    from keras_mixer.visualization.parts import stem_of

    rows, columns = stem_of(model).grid
    return [0, (rows // 4) * columns + columns // 4, (rows // 2) * columns + columns // 2]
