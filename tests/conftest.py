import collections
import gc
import hashlib
import os
import pathlib
import shutil
import sys
import tomllib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import filelock
import pytest

# They start first, so that nobody waits for them in the end.
LONGEST = ("training/test_equality.py", "training/test_run.py", "prediction/test_killed.py")
FOLDER = pathlib.Path(__file__).parent
TIERS = tomllib.loads((FOLDER / "tiers.toml").read_text(encoding="utf-8"))


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))
    cases = collections.defaultdict(list)
    for item in items:
        file, name = item.path.relative_to(FOLDER).as_posix(), item.nodeid.partition("::")[2]
        for tier in ("slow", "long"):
            if any(file.startswith(path) and name.startswith(tuple(tests)) for path, tests in TIERS[tier].items()):
                item.add_marker(tier)
        chosen = tuple(case for case in TIERS["only"].get(file, ()) if _function(case) == _function(name))
        if chosen:
            stays = name.startswith(chosen)
            cases[file, _function(name)].append(stays)
            if not stays:
                item.add_marker("long")
    by_name = any("::" in argument for argument in config.args)  # then cases may be left out
    for (file, function), stay in cases.items():
        if len(stay) > 1 and not any(stay) and not by_name:
            raise pytest.UsageError(f"tests/tiers.toml chooses a case of {function} in {file} that does not exist.")


def _function(case: str) -> str:
    return case.partition("[")[0]


def pytest_collection_finish():
    """Saves time: a tenth goes into looking through what is imported by now, a fifth into rewriting small graphs."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    _rewrite_graphs(False)  # the processes that tests start keep TensorFlow's defaults


def _rewrite_graphs(on: bool) -> None:
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": not on})


@pytest.fixture
def rewritten_graphs():
    """TensorFlow's defaults, for a test that compares rounding errors with those of a run made with them."""
    _rewrite_graphs(True)
    yield
    _rewrite_graphs(False)


@pytest.fixture(autouse=True)
def clean_keras_state():
    """Every test starts from the default dtype policy and a fixed seed, and leaves no names behind."""
    import keras  # here, for the process that starts the workers of pytest-xdist runs no test

    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    # Collecting garbage after each test would take longer than most tests.
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def shapes_only():
    """Variables get no values, where only shapes count and most of the time would go into drawing random numbers."""
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield


# A classifier of the digits, for tests of what happens to a model after training. No test changes its files.


def _once(folder, write):
    """Lets the first process of the suite that comes here write the folder, and the others wait for it."""
    folder.parent.mkdir(exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        done = pathlib.Path(f"{folder}.done")
        if not done.exists():
            write(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with the dataset as TFDS stores it and the run folder `run`."""
    import digit_models

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "digits"
    return _once(folder, lambda folder: digit_models.write_run(folder / "run", digit_models.fitted(folder)))


@pytest.fixture(scope="session")
def model(digits):
    import keras

    return keras.models.load_model(digits / "run" / "model.keras")


@pytest.fixture(scope="session")
def card(digits):
    import digit_models

    return digit_models.card(digits)


@pytest.fixture(scope="session")
def exported(digits, model, card):
    """The folder `digits` with version 1 of the SavedModel, the LiteRT file and the card."""
    import digit_models

    return _once(digits / "exports" / "digits", lambda folder: digit_models.export(folder, model, card))


@pytest.fixture(scope="module")
def litert_once(tmp_path_factory):
    """Exports convert a model to LiteRT once for each precision: the file of the first time is copied later."""
    from keras_mixer.artefacts import litert

    folder, convert = tmp_path_factory.mktemp("converted"), litert.export_litert

    def converted(model, path, *, precision, samples, **more):
        digest = hashlib.sha256(f"{model.to_json()} {precision} {more}".encode())
        for array in (*model.get_weights(), *(samples or ())):
            digest.update(array.tobytes())
        known = folder / f"{digest.hexdigest()}.tflite"
        if not known.exists():
            convert(model, known, precision=precision, samples=samples, **more)
        path.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(known, path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(litert, "export_litert", converted)
        yield


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face hub that the hub's own client is pointed at, with an empty cache and no token."""
    import loopback_hub

    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))  # the client reads the variables once
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KERAS_MIXER_WEIGHTS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with loopback_hub.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
