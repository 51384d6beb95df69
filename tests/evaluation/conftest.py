import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where TensorFlow Datasets keeps its files."""
    return tmp_path_factory.mktemp("tensorflow_datasets")
