"""The documentation site: `make docs` builds it into build/site. The sources are all Markdown files and notebooks.

The source folder is the root of the repository, so that a link such as `../benchmarks/family.md` leads to the same
text on the site as in the repository.
"""

import pathlib
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project, author, copyright = PROJECT["name"], PROJECT["authors"][0]["name"], PROJECT["authors"][0]["name"]
version = release = PROJECT["version"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "site_parts",
]

root_doc = "docs/index"
include_patterns = [
    *("docs/**/*.md", "docs/**/*.rst", "docs/*.md", "notebooks/*.ipynb", "benchmarks/*.md"),
    *("keras_mixer/weights/shipped/*.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"),
]
exclude_patterns = [".*", "build", "runs", "saved_models", "tests", "tools", "run", "*.egg-info"]
nitpicky = True
# Types of other packages: their documentation is on other sites.
nitpick_ignore_regex = [("py:.*", r"(?!keras_mixer\b).*")]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a page that is included may begin below the first level
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 3600
nb_merge_streams = True
nb_output_stderr = "remove"  # notices of TensorFlow, which differ from machine to machine

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["../build/extra"]
html_math_renderer = "mathml"
html_theme_options = {
    "source_repository": PROJECT["urls"]["Repository"],
    "source_branch": "main",
    "source_directory": "",
    "top_of_page_buttons": [],
}
html_show_copyright = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
