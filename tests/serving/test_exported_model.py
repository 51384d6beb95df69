"""An exported Mixer, served from its bundle: the server's answers are the model's."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

import keras_mixer
from keras_mixer import serving
from keras_mixer.data import ModelCard, Preprocessing
from keras_mixer.export import export_saved_model, write_serving_bundle

CLASSES = tuple("abcdefg")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = keras_mixer.Mixer(
        num_blocks=2,
        patch_size=8,
        hidden_dim=32,
        tokens_mlp_dim=8,
        channels_mlp_dim=64,
        input_shape=(16, 16, 3),
        classes=len(CLASSES),
    )
    head = model.get_layer("head")  # it starts at zero, where all images have one score
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    return model


@pytest.fixture(scope="module")
def server(model, tmp_path_factory, grpc_stubs):
    folder = tmp_path_factory.mktemp("exported")
    card = ModelCard("letters", CLASSES, Preprocessing(image_size=(16, 16), resize="direct"))
    export_saved_model(model, folder / "letters", card)
    bundle = write_serving_bundle(folder / "letters", folder / "bundle")
    batching = serving.read_batching_parameters(bundle / "batching_parameters.txt")
    models = serving.read_model_config(bundle / "models.config")
    with serving.Server(models, rest_port=0, port=0, batching=batching) as server:
        yield server


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_server_answers_as_the_model_does(model, server, protocol):
    pixels = np.random.default_rng(1).integers(0, 256, size=(5, 16, 16, 3), dtype=np.uint8)
    inputs = pixels / np.float32(127.5) - 1
    scores = model.predict(inputs, verbose=0)
    url = server.url if protocol == "rest" else server.grpc_target
    with serving.Client(url, model="letters", protocol=protocol, label="stable") as client:
        tops = client.predict(pixels, top=3)
        for top, row in zip(tops, scores, strict=True):
            best = np.argsort(-row)[:3]
            assert [label for label, _ in top] == [CLASSES[k] for k in best]
            np.testing.assert_allclose([score for _, score in top], row[best], rtol=1e-4)
        assert client.features(inputs).shape == (5, 32)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_first_frame_of_a_gif_is_answered_as_the_same_picture_as_png_is(server, protocol):
    pixels = np.random.default_rng(2).integers(0, 256, size=(2, 16, 16), dtype=np.uint8)
    frames = [Image.fromarray(frame) for frame in pixels]  # 256 greys: palettes without loss
    png, gif = io.BytesIO(), io.BytesIO()
    frames[0].save(png, "PNG")
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    url = server.url if protocol == "rest" else server.grpc_target
    with serving.Client(url, model="letters", protocol=protocol) as client:
        expected, answer = client.predict([png.getvalue(), gif.getvalue()])
        assert [label for label, _ in answer] == [label for label, _ in expected]
        # Two rows of one batch may differ in the last bit.
        assert [score for _, score in answer] == pytest.approx([score for _, score in expected], rel=1e-5)
        assert expected != client.predict(pixels[1:, ..., np.newaxis])[0]


def test_a_file_cut_short_is_told_by_its_place(server):
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "PNG")
    data = file.getvalue()
    client = serving.Client(server.url, model="letters")
    with pytest.raises(serving.ServingError, match=r"Image 1 is cut short"):
        client.predict([data, data[:-10], data])
