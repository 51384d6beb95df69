import digit_models
import pytest

from keras_mixer.export import export_saved_model


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
def exported(model, card, tmp_path_factory):
    """A model base path `digits` with one version."""
    base = tmp_path_factory.mktemp("saved_models") / "digits"
    export_saved_model(model, base, card)
    return base
