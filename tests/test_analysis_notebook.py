"""The analysis notebook runs from top to bottom, and is kept without outputs."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parents[1] / "notebooks" / "analysis.ipynb"


def test_outputs_are_stripped():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


# Jupyter's client leaves the closing of its sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_runs_and_finds_what_its_text_says(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 7
    texts = [output["data"]["text/plain"] for output in outputs if "text/plain" in output.get("data", {})]
    accuracy = next(float(text.strip("'% ")) for text in texts if text.endswith("%'"))
    assert accuracy > 80
    difference = next(float(text) for text in texts if text.replace(".", "").replace("e-", "").isdigit())
    assert difference < 1e-5
