import numpy as np
import pytest
from PIL import Image

import keras_mixer
from keras_mixer import visualization
from keras_mixer.visualization.pictures import mosaic
from keras_mixer.weights import InputPreprocessing


def test_mosaic_puts_tiles_in_rows_with_wider_gaps_between_pairs():
    picture = mosaic(np.arange(1.0, 6.0)[:, None, None], columns=4, paired=True)
    expected = np.full(picture.shape, np.nan)
    expected[0, 0], expected[0, 2], expected[0, 6], expected[0, 8], expected[4, 0] = 1, 2, 3, 4, 5
    np.testing.assert_array_equal(picture, expected)


def units(count=6, grid=(4, 7)):
    maps = np.random.default_rng(0).normal(size=(count, *grid))
    return maps, visualization.pair_units(maps)


RNG = np.random.default_rng(0)
PHOTO = RNG.uniform(-1, 1, size=(12, 20, 3))
PCA = visualization.FeaturePCA(RNG.normal(size=(2, 3, 5, 3)), np.array([0.6, 0.2, 0.1]))
FIGURES = {
    "stem_units": lambda: visualization.draw_stem_units(RNG.uniform(size=(10, 4, 4, 3))),
    "influence": lambda: visualization.draw_influence(PHOTO, RNG.uniform(size=(2, 3, 5)), [0, 7], "block 0"),
    "feature_pca": lambda: visualization.draw_feature_pca(np.stack([PHOTO, PHOTO[..., ::-1]]), PCA),
    "grey_pca": lambda: visualization.draw_feature_pca(np.stack([PHOTO[..., :1]] * 2), PCA),
    "occlusion": lambda: visualization.draw_occlusion(PHOTO, RNG.normal(size=(12, 20))),
}


def test_the_title_over_one_small_image_is_whole():
    square = RNG.uniform(-1, 1, size=(1, 12, 12, 3))
    components = visualization.FeaturePCA(RNG.normal(size=(1, 3, 3, 3)), np.array([0.32, 0.11, 0.1]))
    figure = visualization.draw_feature_pca(square, components, "MixerBlock_2")
    figure.draw_without_rendering()
    (title,) = figure.texts
    assert title.get_window_extent().width <= figure.bbox.width


@pytest.mark.parametrize("suffix", visualization.pictures.FORMATS)
def test_the_same_data_gives_the_same_file(suffix, tmp_path):
    first, second = (
        visualization.save_figure(visualization.draw_token_units({"": units()}), tmp_path / "new" / f"{name}{suffix}")
        for name in ("first", "second")
    )
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["stem_units", "influence", "feature_pca", "grey_pca", "occlusion"])
def test_every_picture_shows_something(name, tmp_path):
    path = visualization.save_figure(FIGURES[name](), tmp_path / "picture.png")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert (pixels != 255).any(axis=-1).mean() > 0.3  # of the area is covered


IMAGENET = InputPreprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PHOTO_DRAWINGS = {
    "influence": lambda image, **scale: visualization.draw_influence(image, np.ones((1, 3, 5)), [0], **scale),
    "feature_pca": lambda image, **scale: visualization.draw_feature_pca(np.stack([image] * 2), PCA, **scale),
    "occlusion": lambda image, **scale: visualization.draw_occlusion(image, np.ones((12, 20)), **scale),
}


@pytest.mark.parametrize("name", PHOTO_DRAWINGS)
@pytest.mark.parametrize(
    ("preprocessing", "channels"), [(None, 3), (IMAGENET, 3), (InputPreprocessing(mean=0.0, std=1.0), 1)]
)
def test_a_photo_is_drawn_as_it_was_before_preprocessing(name, preprocessing, channels):
    photo = RNG.integers(0, 256, size=(12, 20, channels))
    image = keras_mixer.preprocess_input(photo, preprocessing)
    scale = {"preprocessing": preprocessing} if preprocessing else {}
    (drawn,) = PHOTO_DRAWINGS[name](image, **scale).axes[0].images
    np.testing.assert_allclose(drawn.get_array(), (photo if channels == 3 else photo[..., 0]) / 255, atol=1e-6)


def test_the_preprocessing_of_another_number_of_channels_is_named():
    with pytest.raises(ValueError, match="the images have 1 channels"):
        visualization.draw_occlusion(PHOTO[..., :1], np.ones((12, 20)), preprocessing=IMAGENET)


def test_a_unit_and_its_inverse_are_drawn_in_opposite_colours(tmp_path):
    """Of one pair of constant units, the left half of the picture is red and the right half blue."""
    maps = np.stack([np.ones((4, 4)), -np.ones((4, 4))])
    figure = visualization.draw_token_units({"": (maps, visualization.pair_units(maps))})
    path = visualization.save_figure(figure, tmp_path / "pair.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red = (pixels[..., 0] - pixels[..., 2]) > 60
    blue = (pixels[..., 2] - pixels[..., 0]) > 60
    assert red.any()
    assert blue.any()
    assert np.nonzero(red)[1].max() < np.nonzero(blue)[1].min()


def test_other_formats_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"\.png or \.svg, but got .*units\.bmp"):
        visualization.save_figure(visualization.draw_token_units({"": units()}), tmp_path / "units.bmp")


def test_numbers_of_units_that_are_not_integers_are_named():
    for numbers in ({"pairs_shown": 0}, {"columns": 1.5}):
        with pytest.raises(ValueError, match=f"`{next(iter(numbers))}` must be a positive integer"):
            visualization.draw_token_units({"": units()}, **numbers)
    with pytest.raises(ValueError, match="`units_shown` must be a positive integer"):
        visualization.draw_stem_units(np.zeros((2, 4, 4, 3)), units_shown="2")


def test_pictures_of_unequal_numbers_are_named():
    image = np.zeros((4, 4, 3))
    for tokens, maps in (([0], np.zeros((2, 2, 2))), ([], np.zeros((0, 2, 2)))):
        with pytest.raises(ValueError, match="one or more tokens and maps, as many of both"):
            visualization.draw_influence(image, maps, tokens)
    pca = visualization.FeaturePCA(np.zeros((2, 2, 2, 3)), np.ones(3) / 3)
    with pytest.raises(ValueError, match="one or more images and maps, as many of both, but got 1 and 2"):
        visualization.draw_feature_pca(image[None], pca)
    with pytest.raises(ValueError, match=r"got the shape \(1, 2, 2, 3\)"):
        visualization.draw_attribution(image, np.zeros((1, 2, 2, 3)))
