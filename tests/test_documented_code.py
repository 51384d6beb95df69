"""The examples of docstrings and the code of README and docs run; `support/workshop.py` has what they need."""

import ast
import doctest
import functools
import importlib
import itertools
import pathlib
import re
import shlex
import shutil
import types

import click
import digit_models
import imagenet
import keras
import loopback_hub
import numpy as np
import pytest
import tensorflow_datasets as tfds
import workshop

import keras_mixer
from keras_mixer import data, evaluation, serving
from keras_mixer.artefacts import opening
from keras_mixer.cli import main
from keras_mixer.cli.main import keras_mixer_command
from keras_mixer.models import catalogue

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "generated")]


@pytest.fixture(scope="module")
def furnished(digits, exported, tmp_path_factory):
    """A folder with what the examples need, which no test changes."""
    folder = tmp_path_factory.mktemp("furnished")
    workshop.furnish(folder, digits / "run", exported)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(folder / "keras"))
        workshop.publish()
        yield folder


@pytest.fixture(scope="module")
def folder(furnished, tmp_path_factory):
    return shutil.copytree(furnished, tmp_path_factory.mktemp("workshop") / "folder")


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def small_variants():
    with workshop.small_variants():
        yield


# Docstrings


def docstrings() -> dict[str, tuple[str, list[doctest.Example]]]:
    """Name of each function and class with an example -> its module and the examples."""
    found = {}
    for path in sorted((ROOT / "keras_mixer").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
            if text and (examples := doctest.DocTestParser().get_examples(text)):
                found[f"{module}.{node.name}"] = (module, examples)
    return found


EXAMPLES = docstrings()
# The result depends on the stand-ins or the machine: only its form is compared.
OF_A_FORM = {
    "keras_mixer.data.preparation.prepare",
    "keras_mixer.export.hub.push_to_hub",
    "keras_mixer.images.decode",
    "keras_mixer.serving.client.client.Client",
    "keras_mixer.weights.published.cache.download",
    "keras_mixer.weights.published.class_names.decode_predictions",
}


class StandIns(dict):
    """Names that an example uses and does not define: those of its module, or made when they are used."""

    def __init__(self, name: str, module: str):
        package = importlib.import_module(module.rpartition(".")[0])
        public = {name: getattr(package, name) for name in dir(package) if not name.startswith("_")}
        own = vars(importlib.import_module(module))
        super().__init__(public | own | {"keras_mixer": keras_mixer, "keras": keras, "np": np, "pathlib": pathlib})
        self._name = name

    def __missing__(self, name):
        if not hasattr(self, f"make_{name}"):
            raise KeyError(name)
        self[name] = getattr(self, f"make_{name}")()
        return self[name]

    def make_model(self):
        if self._name.startswith(("keras_mixer.data", "keras_mixer.artefacts")):
            model = digit_models.untrained()
            sparse = "sparse_" if self._name.endswith("CorruptImages") else ""
            model.compile("sgd", f"{sparse}categorical_crossentropy")
            return model
        return mixer((32, 32, 3), 4) if self._name.endswith("decode_predictions") else mixer((224, 224, 3), 16)

    def make_images(self):
        if self._name.endswith("on_classes"):
            return np.zeros((64, 8, 8, 3), "float32")
        size = self["model"].input_shape[1:]
        count = 1 if self._name.endswith(("load_model", "decode_predictions")) else 8
        return np.random.default_rng(0).uniform(-1, 1, (count, *size)).astype("float32")

    def make_image(self):
        return self["images"][0]

    def make_labels(self):
        return np.arange(8)

    def make_nano(self):
        return keras_mixer.MixerNano(weights="cifar10")

    def make_source(self):
        return data.load("digits", split="test[:100]")

    def make_preprocessing(self):
        return digit_models.PREPROCESSING

    def make_train(self):
        images = np.random.default_rng(0).normal(size=(60, 8, 8, 1)).astype("float32")
        return (images.reshape(60, -1) if self._name.endswith("few_shot_probe") else images), np.arange(60) % 10

    make_test = make_train

    def make_make_mixer(self):
        return lambda: mixer((8, 8, 1), 4, classes=10)

    make_make_resnet = make_make_mixer

    def make_imagenet(self):
        return types.SimpleNamespace(class_names=imagenet.synsets())

    def make_card(self):
        if self._name.endswith("on_classes"):
            return imagenet.card(np.arange(0, 20_000, 20))
        return data.ModelCard("imagenet", imagenet.synsets(), imagenet.PREPROCESSING)

    def make_predictor(self):
        classes = imagenet.CLASSES_21K if self._name.endswith("on_classes") else 1_000
        return evaluation.keras_predictor(mixer((8, 8, 3), 4, classes))

    def make_write_hailo(self):
        return lambda model, path, card, samples: path

    def make_MyMLP(self):  # noqa: N802 - the name in the example
        return mixer


def mixer(input_shape, patch_size, classes=1_000):
    sizes = {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
    return keras_mixer.Mixer(**sizes, patch_size=patch_size, input_shape=input_shape, classes=classes)


@pytest.fixture
def surroundings(request, monkeypatch):
    """What some examples need around them; returns what to replace in their text."""
    name = request.getfixturevalue("name")
    monkeypatch.setattr(opening, "FORMATS", dict(opening.FORMATS))
    monkeypatch.setattr(catalogue, "_registered", list(catalogue._registered))
    text = "".join(example.source for example in EXAMPLES[name][1])
    if re.search(r"MixerB16\(\)|MixerS32|res_mlp_24|CycleMLPB1", text):
        request.getfixturevalue("shapes_only")
    for ending, needed in {"tpu_check": "libtpu", "images.decode": "pillow_heif"}.items():
        if name.endswith(ending):
            pytest.importorskip(needed)
    if name.endswith("client.Client"):
        with serving.Server("saved_models/digits", rest_port=0, port=None) as server:
            yield {"http://127.0.0.1:8501": server.url}
    elif name.endswith("push_to_hub"):
        request.getfixturevalue("hub")
        monkeypatch.setenv("HF_TOKEN", loopback_hub.TOKEN)
        yield {"runs/flowers": "runs/digits"}
    elif name.endswith("real_accuracy"):
        with tfds.testing.mock_data(num_examples=4):
            yield {}
    elif "imagenet21k" in text or "gsam" in text:
        with workshop.small_variants():
            yield {}
    else:
        others = {"run.train": {"runs/digits": "runs/new"}, "preparation.prepare": {'"./photos"': '"./flowers/train"'}}
        yield {"s3://bucket/": "flowers/test/rose/"} | next(
            (pairs for ending, pairs in others.items() if name.endswith(ending)), {}
        )


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_docstring(name, surroundings):
    module, examples = EXAMPLES[name]
    names = StandIns(name, module)
    for example in examples:
        source = functools.reduce(lambda text, pair: text.replace(*pair), surroundings.items(), example.source)
        result = evaluate(source, names)
        if not example.want:
            continue
        # TensorFlow shows a shape as `TensorShape([2, 16])`, the other backends as the tuple.
        shown = re.sub(r"TensorShape\(\[(.*?)\]\)", r"(\1)", repr(result))
        if name in OF_A_FORM:
            assert form(shown) == form(example.want.strip())
        else:
            assert shown == example.want.strip()


def evaluate(source: str, names: dict):
    """Runs a statement and returns None, or an expression and returns its value."""
    *statements, last = ast.parse(source).body
    value = last.value if isinstance(last, ast.Expr) else None
    exec(compile(ast.Module([*statements, *([] if value else [last])], []), "<example>", "exec"), {}, names)
    return eval(compile(ast.Expression(value), "<example>", "eval"), {}, names) if value else None


def form(text: str) -> str:
    """The text without the contents of its strings and numbers."""
    return re.sub(r"[-+\d.e]*\d", "0", re.sub(r"'[^']*'", "''", re.sub(r"np\.float32\((.*?)\)", r"\1", text)))


# README and docs


def blocks(language: str) -> list:
    """The blocks of a language, as parameters named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.fixture(scope="module")
def photographs():
    """Names that the Python blocks of the pages use, kept from block to block."""
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    return {"photographs": images, "labels": np.array([1, 4])}


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`:UserWarning")  # such as the stem
@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block(code, photographs, small_variants):
    exec(compile(code, "<block>", "exec"), photographs)


def commands(text: str) -> list[list[str]]:
    """The words of each `keras-mixer` command of a shell block."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"(\w+=\S+ )*keras-mixer ", line)]
    return [words[words.index("keras-mixer") + 1 :] for words in found]


@pytest.mark.parametrize("text", blocks("shell"))
def test_the_commands_of_a_shell_block_are_understood(text):
    """By the parser of each sub-command: its options and their values exist."""
    for words in commands(text):
        context, group = click.Context(keras_mixer_command, info_name="keras-mixer"), keras_mixer_command
        name, command, rest = group.resolve_command(context, words)
        if isinstance(command, click.Group):
            name, command, rest = command.resolve_command(context, rest)
        for place, word in enumerate(rest):
            if word.startswith("runs/"):  # a run that the page made before
                rest[place] = "runs/digits"
        command.make_context(name, rest, parent=context)


# Long runs are cut short by what a user may add to the command line.
SHORT = "batch_size=4 eval_batch_size=4 schedule.steps=2 schedule.warmup_steps=1"


def test_the_commands_of_the_readme(capsys, small_variants):
    """All but the server, which `serving` tests, one after the other."""
    text = "".join(block.values[0] for block in blocks("shell") if block.id.startswith("README"))
    done = []
    for words in commands(text):
        if words[0] == "serve":
            continue
        with pytest.raises(SystemExit) as exit_:
            main([*words, *(f"--set={setting}" for setting in SHORT.split() if words[0] == "train")])
        assert exit_.value.code == 0, capsys.readouterr().err
        done.append(words[0])
    assert done == ["data", "train", "evaluate", "predict", "predict", "export"]


# A server runs until it is stopped; the others need a cluster, a TPU, KerasHub, a dataset to download, or an account.
ELSEWHERE = re.compile(
    r"^serve|--ray-address|--models vit|--strategy|^tpu-check|--real|imagenet_v2|oxford_|hf://|--recipe imagenet|coreml"
)
# What makes a command quick, by its name and by its words.
QUICK = {"train": [f"--set={setting}" for setting in (*SHORT.split(), "schedule.epochs=null")]}
QUICK["invariance"] = ["--epochs=1", "--limit=32"]
QUICK["benchmark"] = ["--batch-size=1", "--max-seconds=0.1"]
SMALLER = {"448": "64", "learning_rate_grid=[0.003,0.01,0.03]": "learning_rate_grid=[0.01]"}


def of_page(page: pathlib.Path) -> list[list[str]]:
    """The commands of a page that run here, in their order."""
    text = "".join(re.findall(r"^```shell\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    return [words for words in commands(text) if not ELSEWHERE.search(" ".join(words))]


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if of_page(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page(page, furnished, tmp_path, monkeypatch, capsys, small_variants):
    """One after the other, where the page's photographs, run and exports are."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for place in ("runs", "saved_models"):
        for name in ("flowers", "things"):
            shutil.copytree(f"{place}/digits", f"{place}/{name}")
    shutil.copytree("flowers", "new")
    for words in of_page(page):
        words = [SMALLER.get(word, word) for word in words]
        made = [word for before, word in itertools.pairwise(words) if before == "--output" and word.startswith("runs/")]
        for run in made:  # the page trains it anew, or goes on from an earlier one
            shutil.rmtree(run, ignore_errors=True)
        with pytest.raises(SystemExit) as exit_:
            main([*words, *QUICK.get(words[0], [])])
        out, err = capsys.readouterr()
        # One of the 360 digits more than the limit may change: the file is written, and the status is 1.
        written = words[0] == "export" and exit_.value.code == 1 and "points of accuracy; its limit is" in err
        assert exit_.value.code == 0 or written, f"{' '.join(words)}: {err or out}"
