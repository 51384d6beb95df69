"""The notebooks run from top to bottom, and are kept without outputs."""

import pathlib
import re

import nbformat
import pytest

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"

# Jupyter's client leaves the closing of its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def executed(name: str, folder: pathlib.Path) -> tuple[list[str], int]:
    """Runs a notebook, which raises where one of its own assertions does not hold.

    Returns:
        What its cells print and return, and how many pictures they draw.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs], pictures


def percentages(texts: list[str]) -> list[float]:
    """All numbers before a `%`, in order."""
    return [float(number) for text in texts for number in re.findall(r"([\d.]+) %", text)]


@pytest.fixture(autouse=True)
def files_of_kernels(monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_analysis_finds_what_its_text_says(tmp_path):
    texts, pictures = executed("analysis.ipynb", NOTEBOOKS)  # it reads photographs beside it and writes nothing
    assert pictures == 7
    assert percentages(texts)[0] > 60
    (shuffled,) = percentages([text for text in texts if text.startswith("shuffled images")])
    assert shuffled < 40
    difference = next(float(text) for text in texts if text.replace(".", "").replace("e-", "").isdigit())
    assert difference < 1e-5


def test_deploy_gives_the_same_answer_each_way(tmp_path):
    texts, _ = executed("deploy.ipynb", tmp_path)
    assert percentages(texts)[0] > 90
    differences = next(text for text in texts if "differs by" in text).splitlines()
    assert [line.split()[0] for line in differences] == ["REST", "gRPC", "LiteRT"]
    assert all(float(line.split()[-1]) < 1e-5 for line in differences)
    assert "models.config" in texts[-1]


def test_the_paper_becomes_code(tmp_path):
    texts, _ = executed("from_paper_to_code.ipynb", tmp_path)
    (accuracy,) = percentages(texts)
    assert accuracy > 85
    assert "10282" in texts[2]
    assert texts[-1] == "(59111472, 59111472)"


def test_finetune_gains_on_training_from_scratch(tmp_path):
    texts, _ = executed("finetune.ipynb", tmp_path)
    pretrained, finetuned, scratch, at_64 = percentages(texts)
    assert pretrained > 90
    assert finetuned > scratch + 5
    assert at_64 > 70


def test_train_on_tpu_runs_on_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # the notebook's default
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    texts, _ = executed("train_on_tpu.ipynb", tmp_path)
    devices = next(text for text in texts if text.startswith("('jax'"))
    assert "cpu:1" in devices
    trained, loaded = percentages(texts)
    assert trained == loaded > 50
