import ast
import pathlib
import re
import tomllib

FOLDER = pathlib.Path(__file__).parent
TIERS = tomllib.loads((FOLDER / "tiers.toml").read_text(encoding="utf-8"))


def test_every_line_of_the_tiers_is_the_beginning_of_a_test():
    unknown = []
    for file, beginnings in [item for tier in TIERS.values() for item in tier.items()]:
        if file.endswith("/"):  # a whole folder
            assert list((FOLDER / file).glob("test_*.py"))
            continue
        tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
        tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for beginning in beginnings:
            function, case, _ = beginning.rpartition("::")[2].partition("[")
            if not (function in tests if case else any(test.startswith(function) for test in tests)):
                unknown.append(f"{file}: {beginning}")
    assert not unknown


def test_what_runs_on_other_backends_is_where_make_looks_for_it():
    makefile = (FOLDER.parent / "Makefile").read_text(encoding="utf-8")
    places = tuple(re.search(r"^ON_BACKENDS := (.*)$", makefile, re.MULTILINE)[1].split())
    marked = [file for file in FOLDER.rglob("test_*.py") if "pytest.mark.backends" in file.read_text(encoding="utf-8")]
    marked = [file.relative_to(FOLDER.parent).as_posix() for file in marked if file != pathlib.Path(__file__)]
    assert len(marked) > 20
    assert not [file for file in marked if not file.startswith(places)]
