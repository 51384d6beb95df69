"""The web page in Chromium: it shows what the Keras model says, asks nobody else, and everyone can use it."""

import base64
import functools
import json
import tarfile

import numpy as np
import photographs
import pytest
import tensorflow as tf
import web_page

import keras_mixer
from keras_mixer import serving
from keras_mixer.artefacts import export_saved_model, export_web
from keras_mixer.artefacts.web import MIRROR_VARIABLE
from keras_mixer.card import ModelCard
from keras_mixer.data import pixels
from keras_mixer.download import cached_file
from keras_mixer.preprocessing import Preprocessing

AXE = "https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz"
AXE_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
HOSTILE = "<img src=x onerror=document.title='hacked'>"


@functools.cache
def photos() -> dict[str, bytes]:
    """Files of differing sizes, formats and orientations, without TIFF, JPEG 2000 and HEIC."""
    zoo = photographs.zoo((96, 64))
    files = {name: data for name, data in zoo.items() if not name.endswith((".tiff", ".jp2", ".j2k", ".heic"))}
    for number, orientation in enumerate(photographs.ORIENTATIONS):
        for file_format, size in (("JPEG", (203 + 97 * number, 301)), ("PNG", (61, 90 + number)), ("WEBP", (33, 32))):
            image = photographs.photograph(number, size, seed=number)
            options = {"lossless": True} if file_format == "WEBP" else {}
            data = photographs.encoded(image, file_format, orientation, ("II", "MM")[number % 2], **options)
            files[f"{file_format} {orientation}"] = data
    files["phone"] = photographs.phone_photograph(0, 1)
    files["panorama"] = photographs.encoded(photographs.photograph(1, (4000, 90)))
    files["dot"] = photographs.encoded(photographs.photograph(2, (1, 1)), "PNG")
    return files


@pytest.fixture(scope="module")
def start():
    with web_page.chromium() as start:
        yield start


@pytest.fixture(scope="module")
def browser(start):
    with start() as running:
        yield running


@pytest.fixture(scope="module")
def nano():
    """The shipped Mixer-Nano and its card, and the scores of the photographs."""
    model = keras_mixer.MixerNano(weights="cifar10")
    names = keras_mixer.weights.names_of(keras_mixer.weights.find("mixer_nano", "cifar10"))
    card = ModelCard("nano", tuple(names), model.preprocessing)
    inputs = np.stack([model_input(data, card.preprocessing) for data in photos().values()])
    return model, card, dict(zip(photos(), model.predict(inputs, verbose=0), strict=True))


@pytest.fixture(scope="module")
def folder(nano, tmp_path_factory):
    return export_web(nano[0], tmp_path_factory.mktemp("export") / "web", nano[1])


@pytest.fixture(scope="module")
def site(folder):
    with web_page.hosted(folder) as address:
        yield address


@pytest.fixture(scope="module")
def server(nano, tmp_path_factory):
    bases = [tmp_path_factory.mktemp("models") / name for name in ("nano", "other")]
    for base in bases:
        export_saved_model(nano[0], base, nano[1])
    with serving.Server(bases, rest_port=0, port=None) as running:
        yield f"{running.url}/"


@pytest.fixture
def visitor(browser, site):
    visitor = web_page.Visitor(browser, site)
    yield visitor
    assert visitor.errors == []
    visitor.page.close()


@pytest.fixture(scope="module")
def axe():
    file = cached_file(AXE, AXE.rpartition("/")[2], sha256=AXE_SHA256, mirror=MIRROR_VARIABLE)
    with tarfile.open(file) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@functools.cache
def decoded(data, channels):
    return pixels.read(tf.constant(data), channels)


def model_input(data, preprocessing):
    return pixels.apply(decoded(data, preprocessing.channels), preprocessing).numpy()


def best(nano, name):
    return nano[1].class_names[nano[2][name].argmax()]


def check(visitor, nano, names):
    """Checks the scores that are shown, which are rounded to a thousandth."""
    for name in names:
        shown = visitor.chooses(name, photos()[name])
        expected = dict(zip(nano[1].class_names, nano[2][name], strict=True))
        assert len(shown) == 5
        assert next(iter(shown)) == best(nano, name)
        np.testing.assert_allclose(list(shown.values()), [expected[key] for key in shown], atol=2e-3, err_msg=name)


def test_a_dropped_file_shows_its_label(visitor, nano):
    visitor.hands_over("drop", "photo.jpg", photos()["JPEG 6"])
    visitor.sees(web_page.RESULT)
    assert visitor.status.inner_text().startswith(f"{best(nano, 'JPEG 6')}, ")
    assert visitor.page.locator("#picture").get_attribute("aria-label").startswith("The image, 688 by 301 pixels")


def test_a_pasted_file_shows_its_label(visitor, nano):
    visitor.hands_over("paste", "image.png", photos()["plain.png"])
    visitor.sees(web_page.RESULT)
    assert visitor.status.inner_text().startswith(f"{best(nano, 'plain.png')}, ")


def test_scores_are_those_of_the_keras_model_and_nobody_else_is_asked(visitor, nano, site):
    assert len(photos()) > 60
    check(visitor, nano, photos())
    assert "by WebAssembly" in visitor.status.inner_text()
    assert all(address.startswith(site) for address in visitor.requests)


def test_threads_where_the_host_isolates_the_page(browser, nano, folder):
    headers = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    with web_page.hosted(folder, headers) as address:
        visitor = web_page.Visitor(browser, address)
        check(visitor, nano, ["JPEG 3", "clear.png"])
        assert any("threaded" in address for address in visitor.requests)


def test_webgpu(start, nano, site):
    """By the graphics that Chromium computes on the processor."""
    switches = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    with start(*switches) as browser:
        visitor = web_page.Visitor(browser, site)
        check(visitor, nano, ["JPEG 3", "clear.png"])
        assert "by WebGPU" in visitor.status.inner_text()


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing((32, 40)),
        Preprocessing((64, 48), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop_share=0.96, interpolation="bicubic"),
        Preprocessing((50, 50), resize="squash", interpolation="lanczos3"),
        Preprocessing((50, 50), resize="squash", interpolation="lanczos5"),
        Preprocessing((40, 60), resize="direct", interpolation="area"),
        Preprocessing((40, 60), resize="direct", interpolation="nearest"),
        Preprocessing((32, 32), channels=1),
        Preprocessing((131, 97), channels=1, interpolation="bicubic"),
    ],
    ids=lambda preprocessing: f"{preprocessing.resize} {preprocessing.interpolation} {preprocessing.channels}",
)
def test_the_input_is_that_of_the_package(visitor, preprocessing):
    """To a hundredth of a level of 255."""
    level = 1 / (255 * np.broadcast_to(preprocessing.std, preprocessing.channels))
    for name, data in photos().items():
        if name == "phone":  # its bytes take long to hand over, and its scores are compared
            continue
        found = visitor.page.evaluate(
            """async ([values, preprocessing]) => {
                const [{openPhoto}, {modelInput}] = [await import("./photo.js"), await import("./preprocessing.js")];
                const bytes = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0));
                const photo = await openPhoto(bytes, "photo");
                try {
                    return Array.from(await modelInput(photo, preprocessing));
                } finally {
                    photo.close();
                }
            }""",
            [base64.b64encode(data).decode(), json.loads(preprocessing.to_json())],
        )
        expected = model_input(data, preprocessing)
        assert (np.abs(np.reshape(found, expected.shape) - expected) <= 0.01 * level).all(), name


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("notes.txt", b"no image", "notes.txt cannot be read"),
        ("empty.jpg", b"", "empty.jpg is empty"),
        ("cut.png", photographs.zoo()["plain.png"][:60], "cut.png cannot be read"),
        ("forged.jpg", b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0II*\0\xff\xff\xff\xff", "forged.jpg cannot be read"),
        ("plain.tiff", photographs.zoo()["plain.tiff"], "a format that this browser does not know"),
        (HOSTILE, b"no image", HOSTILE),
    ],
    ids=["text", "empty", "cut short", "forged", "unknown format", "hostile name"],
)
def test_a_bad_file_is_told_and_the_next_one_works(visitor, nano, name, data, message):
    visitor.hands_over("drop", name, data)
    visitor.expect(visitor.status).to_contain_text(message)
    visitor.expect(visitor.status).to_have_class("error")
    check(visitor, nano, ["plain.jpg"])
    assert visitor.page.title() == "nano"


def test_names_are_text(browser, tmp_path_factory, nano):
    model, card, _ = nano
    hostile = ModelCard(HOSTILE, tuple(f"{HOSTILE} {name}" for name in card.class_names), card.preprocessing)
    with web_page.hosted(export_web(model, tmp_path_factory.mktemp("export") / "web", hostile)) as address:
        visitor = web_page.Visitor(browser, address)
        visitor.hands_over("drop", HOSTILE, photos()["plain.jpg"])
        visitor.sees(web_page.RESULT)
        assert visitor.status.inner_text().startswith(f"{HOSTILE} {best(nano, 'plain.jpg')}, ")
        assert visitor.page.locator("h1").inner_text() == visitor.page.title() == HOSTILE
        assert visitor.page.locator("#file-name").inner_text() == HOSTILE
        assert visitor.page.locator("img").count() == 0


def test_an_opened_file_says_how_to_start(browser, folder):
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    page.get_by_text("Serve its folder").wait_for(state="visible")


def test_without_webassembly_the_page_says_so(browser, site):
    context = browser.new_context()
    context.add_init_script("delete window.WebAssembly")
    page = context.new_page()
    page.goto(site)
    page.get_by_text("This browser has no WebAssembly").wait_for()


def test_a_lost_file_is_named(browser, tmp_path, folder):
    for name in ("index.html", "app.js", "photo.js", "preprocessing.js", "engine_litert.js", "settings.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with web_page.hosted(tmp_path) as address:
        web_page.Visitor(browser, address, "model.json cannot be read from this page's folder (404).")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, site, axe, scheme):
    visitor = web_page.Visitor(browser, site, color_scheme=scheme)

    def violations():
        found = visitor.page.evaluate(f"{axe}; axe.run().then(result => result.violations)")
        return [(violation["id"], [node["html"] for node in violation["nodes"]]) for violation in found]

    assert violations() == []
    visitor.chooses("photo.jpg", photos()["phone"])
    assert violations() == []
    visitor.hands_over("drop", "notes.txt", b"no image")
    visitor.expect(visitor.status).to_contain_text("cannot be read")
    assert violations() == []


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_in_one_direction_and_has_a_camera(browser, site, width):
    visitor = web_page.Visitor(browser, site, viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True)
    visitor.chooses("a_photograph_with_a_long_name_" * 8 + ".jpg", photos()["JPEG 1"])
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == width
    with visitor.page.expect_file_chooser() as chosen:
        visitor.page.get_by_role("button", name="Take a photograph").tap()
    assert chosen.value.element.get_attribute("capture") == "environment"


def test_the_keyboard_is_enough(visitor):
    visitor.page.keyboard.press("Tab")
    focused = visitor.page.locator(":focus-visible")
    assert focused.inner_text() == "Choose an image"
    assert focused.evaluate("element => getComputedStyle(element).outlineWidth") == "3px"
    with visitor.page.expect_file_chooser():
        visitor.page.keyboard.press("Enter")


def test_the_server_shows_the_page_for_its_models(browser, server, nano):
    visitor = web_page.Visitor(browser, server)
    read_by_graph, others = ["plain.jpg", "JPEG 8"], ["plain.webp", "clear.webp", "plain.avif", "bits.bmp"]
    check(visitor, nano, read_by_graph + others)
    visitor.page.get_by_label("Model").select_option("other")
    visitor.expect(visitor.page.locator("h1")).to_have_text("other")
    visitor.sees(web_page.READY)
    with visitor.page.expect_request("**/v1/models/other:predict"):
        check(visitor, nano, ["PNG 5"])
    assert all(address.startswith(server) for address in visitor.requests)
    assert not any("runtime" in address for address in visitor.requests)
    assert visitor.errors == []


def test_an_error_of_the_server_is_shown(browser, server, nano):
    visitor = web_page.Visitor(browser, server)
    visitor.page.route("**/*:predict", lambda route: route.fulfill(status=429, json={"error": "Too many pixels."}))
    visitor.hands_over("drop", "plain.jpg", photos()["plain.jpg"])
    visitor.sees("Too many pixels.")
