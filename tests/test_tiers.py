import ast
import pathlib
import tomllib

import pytest

FOLDER = pathlib.Path(__file__).parent
BEGINNINGS = sorted({name for tier in tomllib.loads((FOLDER / "tiers.toml").read_text()).values() for name in tier})


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_every_line_of_the_tiers_is_the_beginning_of_a_test(beginning):
    file, _, name = beginning.partition("::")
    if file.endswith("/"):  # a whole folder
        assert list((FOLDER / file).glob("test_*.py"))
        return
    tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "[" in name:
        assert name.partition("[")[0] in tests
    else:
        assert any(test.startswith(name or "test_") for test in tests)
