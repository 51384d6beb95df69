"""Grad-CAM against its closed form under a linear head, and integrated gradients against the scores they divide."""

import concurrent.futures
import pathlib

import family
import goldens
import keras
import numpy as np
import pytest
from keras import layers

import keras_mixer
from keras_mixer import visualization

pytestmark = pytest.mark.backends
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
CLASS = 3
STORED = pathlib.Path(__file__).parents[1] / "data" / "attributions.npz"


@pytest.fixture(params=family.ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture
def model(architecture):
    return family.randomised(family.tiny(architecture))


def closed_form(model, image, kernel):
    """Under a mean and a linear head, the derivative by every token is the kernel divided by the number of tokens."""
    table = keras.Model(model.input, model.get_layer("pre_logits").input)(image[None])
    table = keras.ops.convert_to_numpy(table)[0].astype("float64")
    rows, columns = table.shape[:2] if table.ndim == 3 else model.get_layer("stem").grid
    return np.maximum(table @ kernel / (rows * columns), 0.0).reshape(rows, columns)


def kernel_of(model):
    return np.array(model.get_layer("head").get_weights()[0], "float64")[:, CLASS]


def test_grad_cam_is_the_closed_form(model):
    heat = visualization.grad_cam(model, IMAGES[0], CLASS)
    np.testing.assert_allclose(heat, closed_form(model, IMAGES[0], kernel_of(model)), rtol=1e-3, atol=1e-6)
    assert heat.max() > 0


def blocks(attributions):
    return attributions.reshape(8, 4, 8, 4, 3).sum(axis=(1, 3, 4))


def test_every_backend_gives_the_same_arrays(architecture, model):
    """Those of PyTorch's own autograd."""
    with np.load(STORED) as stored:
        heat, attributions = stored[f"{architecture}_grad_cam"], stored[f"{architecture}_integrated_gradients"]
    np.testing.assert_allclose(visualization.grad_cam(model, IMAGES[0], CLASS), heat, rtol=1e-4, atol=1e-6)
    mine = blocks(visualization.integrated_gradients(model, IMAGES[0], CLASS, steps=8))
    assert goldens.relative_error(mine, attributions) < 1e-4


@pytest.mark.parametrize("architecture", ["mixer", "convmixer"])
def test_several_images_have_classes_of_their_own(architecture):
    model = family.randomised(family.tiny(architecture))
    best = goldens.outputs(model, IMAGES).argmax(axis=1)
    for attribution in (visualization.grad_cam, visualization.integrated_gradients):
        options = {"steps": 1} if attribution is visualization.integrated_gradients else {}
        expected = [attribution(model, image, int(index), **options) for image, index in zip(IMAGES, best, strict=True)]
        np.testing.assert_allclose(attribution(model, IMAGES, **options), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(attribution(model, IMAGES, list(best), **options), expected, rtol=1e-4, atol=1e-6)


def test_attributions_sum_to_the_difference_of_the_scores(model):
    baseline = np.full_like(IMAGES[0], 0.3)
    scores = goldens.outputs(model, np.stack([IMAGES[0], baseline]))[:, CLASS].astype("float64")
    few, many = (visualization.integrated_gradients(model, IMAGES[0], CLASS, steps, baseline) for steps in (2, 64))
    assert few.shape == many.shape == (32, 32, 3)
    error, smaller = (abs(attributions.sum(dtype="float64") - (scores[0] - scores[1])) for attributions in (few, many))
    assert smaller < 0.02 * abs(scores[0] - scores[1])
    assert smaller < error


def test_the_score_of_a_linear_model_is_divided_exactly():
    images = keras.Input((3, 2, 2))
    model = keras.Model(images, layers.Dense(4, activation="softmax")(layers.Flatten()(images)))
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    image = rng.normal(size=(3, 2, 2))
    kernel = model.get_weights()[0][:, 2].reshape(3, 2, 2)
    attributions = visualization.integrated_gradients(model, image, 2, steps=3, baseline=(0.5, -1.0))
    np.testing.assert_allclose(attributions, (image - np.array([0.5, -1.0])) * kernel, rtol=1e-5, atol=1e-6)
    grey = visualization.integrated_gradients(
        model, image, 2, preprocessing=keras_mixer.weights.InputPreprocessing(channels=2, mean=(0.0, 0.4), std=0.2)
    )
    np.testing.assert_allclose(grey, (image - np.array([2.5, 0.5])) * kernel, rtol=1e-5, atol=1e-6)


ENDS = {
    "in the head": lambda model: layers.Dense(9, "softmax", name="head"),
    "a layer": lambda model: keras.Sequential([layers.Dense(9, name="head"), layers.Activation("softmax")]),
    "Softmax": lambda model: keras.Sequential([layers.Dense(9, name="head"), layers.Softmax()]),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("architecture", "pooling"), [("vip", "avg"), ("mixer", None), ("convmixer", None)])
def test_a_backbone_in_a_larger_model_is_seen_through(architecture, pooling, end):
    backbone = family.randomised(family.tiny(architecture, include_top=False, pooling="avg"))
    inside = backbone
    if pooling is None:
        inside = keras.Model(backbone.input, backbone.get_layer("pre_logits").input)
    outer = [keras.Input((32, 32, 3)), layers.Rescaling(0.5), inside]
    if pooling is None:
        outer.append(getattr(layers, f"GlobalAveragePooling{len(inside.output_shape) - 2}D")())
    outer = keras.Sequential([*outer, ENDS[end](backbone)])
    kernel = np.random.default_rng(2).normal(size=(backbone.output_shape[-1], 9))
    (head,) = [layer for layer in outer._flatten_layers() if layer.name == "head"]
    head.set_weights([kernel, np.zeros(9)])
    expected = closed_form(backbone, IMAGES[0] / 2, kernel[:, CLASS])
    np.testing.assert_allclose(visualization.grad_cam(outer, IMAGES[0], CLASS), expected, rtol=1e-3, atol=1e-6)


def test_the_model_stays_as_it_was():
    model = family.randomised(family.tiny("gmlp"))
    scores = goldens.outputs(model, IMAGES)
    before = [dict(vars(layer)) for layer in model._flatten_layers()]
    visualization.grad_cam(model, IMAGES)
    visualization.integrated_gradients(model, IMAGES, steps=1)
    with pytest.raises(ValueError, match="does not output tokens"):
        visualization.grad_cam(model, IMAGES, layer="head")
    after = [dict(vars(layer)) for layer in model._flatten_layers()]
    assert [sorted(names) for names in before] == [sorted(names) for names in after]
    np.testing.assert_array_equal(goldens.outputs(model, IMAGES), scores)


def test_other_threads_do_not_notice():
    model = family.randomised(family.tiny("mixer", dropout=0.5))
    images = np.concatenate([IMAGES, -IMAGES])
    scores = [keras.ops.convert_to_numpy(model(image[None], training=False)) for image in images]
    maps = visualization.grad_cam(model, images, CLASS)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        drawn = [pool.submit(visualization.grad_cam, model, images, CLASS) for _ in range(3)]
        seen = []
        while not seen or not all(future.done() for future in drawn):
            seen.append([keras.ops.convert_to_numpy(model(image[None], training=False)) for image in images])
    for others in seen:
        np.testing.assert_allclose(others, scores, rtol=1e-5, atol=1e-6)
    for future in drawn:
        np.testing.assert_allclose(future.result(), maps, rtol=1e-4, atol=1e-6)


def test_inner_layers_are_chosen_by_name_or_as_a_layer():
    model = family.randomised(family.tiny("mixer"))
    block = model.get_layer("MixerBlock_0")
    inner = visualization.grad_cam(model, IMAGES[0], CLASS, "MixerBlock_0/token_mixing")
    np.testing.assert_array_equal(inner, visualization.grad_cam(model, IMAGES[0], CLASS, block.token_mixing))
    assert not np.allclose(inner, visualization.grad_cam(model, IMAGES[0], CLASS, "MixerBlock_0"))
    with pytest.raises(ValueError, match=r"'MixerBlock_0' has no layer 'mixing'; it has .*token_mixing"):
        visualization.grad_cam(model, IMAGES[0], CLASS, "MixerBlock_0/mixing")


def test_pyramids_have_maps_of_their_last_stage(architecture):
    if architecture == "mixer":
        model = family.tiny(architecture, num_blocks=3, tokens=(16, 4, 4), patch_size=8)
        assert visualization.grad_cam(model, IMAGES[0]).shape == (4, 4)  # of the last block that keeps the patches
    elif architecture in ("vip", "cyclemlp"):
        model = family.tiny(architecture)
        expected = model.get_layer("pre_head_layer_norm").output.shape[1:3]
        assert visualization.grad_cam(model, IMAGES[0]).shape == tuple(expected)


def test_images_of_any_size():
    model = family.randomised(family.tiny("cyclemlp", input_shape=(None, None, 3)))
    image = np.random.default_rng(3).normal(size=(32, 64, 3)).astype("float32")
    rows, columns = visualization.grad_cam(model, image).shape
    assert columns == 2 * rows
    assert visualization.integrated_gradients(model, image, steps=1).shape == image.shape
    assert visualization.occlusion_saliency(model, image, window=32, stride=32).shape == (32, 64)


@pytest.mark.parametrize("architecture", ["resmlp", "cyclemlp"])
def test_half_precision_agrees(architecture):
    single = family.randomised(family.tiny(architecture))
    half = family.tiny(architecture, dtype="mixed_bfloat16")
    half.set_weights(single.get_weights())
    for attribution in (visualization.grad_cam, visualization.integrated_gradients):
        options = {"steps": 4} if attribution is visualization.integrated_gradients else {}
        mine, theirs = attribution(half, IMAGES[0], CLASS, **options), attribution(single, IMAGES[0], CLASS, **options)
        assert mine.dtype == "float32"
        assert goldens.relative_error(mine, theirs) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(image=IMAGES[0, :16]), r"Expected one image of shape \(32, 32, 3\), but got \(16, 32, 3\)"),
        (dict(class_index=99), "scores 16 classes; got class 99"),
        (dict(image=IMAGES, class_index=[1]), r"one for each of 2 images, but got \[1\]"),
        (dict(steps=0), "`steps` must be a positive integer"),
        *((dict(class_index=wrong), "scores 16 classes; got class") for wrong in (-1, 1.5, "1", True)),
        *((dict(image=wrong), "Expected images|one image") for wrong in (None, "photo.png", IMAGES[:0], IMAGES[None])),
        (dict(image=np.full((32, 32, 3), np.nan)), "holds values that are not finite"),
        (dict(baseline=np.nan), "baseline holds values that are not finite"),
        (dict(baseline="black"), "baseline must hold numbers"),
        (dict(preprocessing="imagenet"), r"`preprocessing` must be a `keras_mixer\.data\.Preprocessing` or None"),
        (dict(baseline=np.zeros(5)), r"baseline of shape \(5,\) does not fit images of shape \(32, 32, 3\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        visualization.integrated_gradients(family.tiny("mixer", classes=16), **({"image": IMAGES[0]} | arguments))


def test_a_model_without_scores_is_named():
    with pytest.raises(ValueError, match="that scores classes"):
        visualization.grad_cam(family.tiny("mixer", include_top=False), IMAGES[0])
    images = keras.Input((4, 4, 1))
    flat = keras.Model(images, layers.Dense(2)(layers.Flatten()(images)))
    with pytest.raises(ValueError, match="no layer of tokens or feature maps"):
        visualization.grad_cam(flat, np.zeros((4, 4, 1)))


MAPS = {
    "grad_cam": visualization.grad_cam,
    "integrated_gradients": visualization.integrated_gradients,
    "occlusion_saliency": visualization.occlusion_saliency,
}


@pytest.mark.parametrize("attribution", MAPS.values(), ids=MAPS)
def test_other_models_than_classifiers_of_images_are_named(attribution):
    model = family.tiny("mixer")
    numbers = keras.Input((4,))
    several = keras.Model(model.input, [model.output, model.get_layer("stem").output], name="several")
    broken = family.tiny("mixer", name="broken")
    broken.get_layer("head").bias.assign(np.full(broken.output_shape[-1], np.nan))
    wrong = {
        "that scores classes, but 'tokens' has an output of shape": family.tiny(
            "mixer", name="tokens", include_top=False
        ),
        "that scores classes, but 'several' has": several,
        "one input of images, but 'pair' has 2": keras.Model([model.input, numbers], model.output, name="pair"),
        "one input of images, but 'unbuilt' has 0": keras.Sequential([layers.Dense(2)], name="unbuilt"),
        "a Keras model, but got 'mixer_b16'": "mixer_b16",
        "a Keras model, but got <Dense": layers.Dense(2),
        "scores that 'broken' gives the image are not finite": broken,
    }
    for message, other in wrong.items():
        with pytest.raises(ValueError, match=message):
            attribution(other, IMAGES[0])
