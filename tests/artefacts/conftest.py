import digit_models
import pytest

from keras_mixer.artefacts import export_litert, export_saved_model


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture(scope="session")
def model():
    return digit_models.untrained()


@pytest.fixture(scope="session")
def card(data_dir):
    return digit_models.card(data_dir)


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """A run folder `run`, and its artefacts in `digits`, as training and export leave them."""
    folder = tmp_path_factory.mktemp("digits")
    card = digit_models.card(folder)
    digit_models.write_run(folder / "run", model)
    export_saved_model(model, folder / "digits", card)
    export_litert(model, folder / "digits" / "model.tflite")
    card.save(folder / "digits" / "model.json")
    return folder


@pytest.fixture(scope="session")
def exported(folder):
    """A model base path `digits` with one version."""
    return folder / "digits"
