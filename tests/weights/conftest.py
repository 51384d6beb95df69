import mirror
import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    return tmp_path / "keras_home" / "keras_mixer"


@pytest.fixture
def server(cache, monkeypatch):
    """A mirror that the downloader is pointed at."""
    with mirror.running() as running:
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", running.url)
        yield running
