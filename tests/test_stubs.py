import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parent.parent


def test_the_stubs_are_as_the_catalogue_has_them():
    spec = importlib.util.spec_from_file_location("stubs", ROOT / "tools" / "stubs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for path, text in tool.stubs().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: run `make stubs`."
