import ast
import pathlib
import tomllib

import pytest

FOLDER = pathlib.Path(__file__).parent
TIERS = tomllib.loads((FOLDER / "tiers.toml").read_text(encoding="utf-8")).values()
BEGINNINGS = sorted({(file, name) for tier in TIERS for file, names in tier.items() for name in names})


@pytest.mark.parametrize(("file", "beginning"), BEGINNINGS)
def test_every_line_of_the_tiers_is_the_beginning_of_a_test(file, beginning):
    if file.endswith("/"):  # a whole folder
        assert list((FOLDER / file).glob("test_*.py"))
        return
    tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    beginning = beginning.rpartition("::")[2]
    if "[" in beginning:
        assert beginning.partition("[")[0] in tests
    else:
        assert any(test.startswith(beginning) for test in tests)
