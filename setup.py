import pathlib
import re
import tomllib

from setuptools import setup

ROOT = pathlib.Path(__file__).parent
URL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def long_description() -> str:
    """The README, whose links lead to the repository, because a package index does not have the other files."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"(!\[[^]]*\]\()(?![a-z]+:)", rf"\g<1>{URL}/raw/main/", readme)
    return re.sub(r"(\]\()(?![a-z]+:|#)", rf"\g<1>{URL}/blob/main/", readme)


setup(long_description=long_description(), long_description_content_type="text/markdown")
