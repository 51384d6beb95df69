import importlib
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_mixer"


def test_the_stubs_are_as_the_catalogue_has_them():
    spec = importlib.util.spec_from_file_location("stubs", ROOT / "tools" / "stubs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for path, text in tool.stubs().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: run `make stubs`."


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("__init__.pyi")), ids=lambda path: path.parent.name)
def test_every_name_of_a_stub_is_in_its_module(stub):
    package = ".".join(stub.parent.relative_to(ROOT).parts)
    lines = re.findall(r"^from (\.\S*) import (\w+) as (\w+)$", stub.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == len({name for _, name, _ in lines}) > 0
    for module, name, public in lines:
        assert name == public
        assert hasattr(importlib.import_module(module, package), name), f"{module} has no {name}"
    assert set(dir(importlib.import_module(package))) >= {name for _, name, _ in lines}
