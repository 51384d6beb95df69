"""The pages of docs/ agree with the code: messages, languages of phones, and links that leave the site's sources."""

import ast
import importlib
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def templates() -> list[str]:
    """The constant parts of all strings in the code, joined by "..." where a value stands."""
    found = []
    for path in (ROOT / "keras_mixer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_troubleshooting_quotes_messages_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^`(.+)`$\n: \*\*Cause", page, re.MULTILINE)
    assert len(quoted) > 35
    texts = templates()
    for quote in quoted:
        pattern = ".*".join(re.escape(part) for part in quote.split("..."))
        assert any(re.search(pattern, text, re.DOTALL) for text in texts), quote


def test_the_extras_that_the_pages_install_exist():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for extras in re.findall(r"(?:keras_mixer|\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= known.keys(), page


def test_every_required_dependency_is_described():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    rows = re.findall(
        r"^\| ([\w, ]+) \|", (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    described = {name for row in rows for name in row.split(", ")} - {"package"}
    assert described == {re.match(r"\w+", each)[0] for each in required}


def test_every_public_package_has_a_page_in_the_reference():
    pages = (ROOT / "docs" / "site_parts.py").read_text(encoding="utf-8")
    index = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    names = [f"keras_mixer.{stub.parent.name}" for stub in (ROOT / "keras_mixer").glob("*/__init__.pyi")]
    assert len(names) >= 10
    for name in names:
        assert f'"{name}"' in pages, name
        assert f"generated/{name}\n" in index, name


@pytest.mark.parametrize("language", ["kotlin", "swift"])
def test_the_code_for_phones_is_well_formed(language):
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = importlib.import_module(f"tree_sitter_{language}")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    page = (ROOT / "docs" / "phone.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert not parser.parse(code.encode()).root_node.has_error
    assert parser.parse(code.replace("{", "(", 1).encode()).root_node.has_error


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_one_address_is_in_one_place():
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*.cff"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("notebooks/*.ipynb")]
    assert not [page.name for page in pages if address in page.read_text(encoding="utf-8")]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
