"""What the site takes from the code: reference pages, tables, links to Colab, the page to try, formulas as MathML."""

import ast
import html
import inspect
import json
import os
import pathlib
import re
import types
import urllib.parse

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import latex2mathml.converter
from docutils import nodes
from sphinx.util import inspect as sphinx_inspect
from sphinx.util import logging

import keras_mixer
from keras_mixer.cli.main import keras_mixer_command

logger = logging.getLogger(__name__)
ROOT = pathlib.Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference" / "generated"
EXTRA = ROOT / "build" / "extra"
# In the order in which a reader meets them. A name that several packages pass on is described in the first.
PACKAGES = (
    *("keras_mixer", "keras_mixer.layers", "keras_mixer.models", "keras_mixer.weights", "keras_mixer.visualization"),
    *("keras_mixer.data", "keras_mixer.artefacts", "keras_mixer.evaluation", "keras_mixer.export"),
    *("keras_mixer.engines", "keras_mixer.prediction", "keras_mixer.serving", "keras_mixer.training"),
    *("keras_mixer.training.recipes", "keras_mixer.reported"),
)


def setup(app):
    """Connects the parts with Sphinx."""
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    app.connect("config-inited", lambda app, config: write_pages())
    app.connect("source-read", add_colab_link)
    app.connect("autodoc-process-docstring", link_names)
    app.connect("autodoc-process-signature", own_signature)
    app.connect("missing-reference", resolve_internal_name)
    app.connect("build-finished", check_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# Reference


def package(name: str) -> types.ModuleType:
    """Returns the module of this name."""
    return __import__(name, fromlist=["_"])


def public_names() -> dict[str, object]:
    """Returns the objects to describe, by their public names: each object once."""
    found: dict[str, object] = {}
    seen: set[int] = set()
    for name in PACKAGES:
        module = package(name)
        # A package lists its names, or passes on what it imports; a module of its own defines them.
        listed = getattr(module, "__all__", None) or [
            key
            for key, value in vars(module).items()
            if getattr(value, "__module__", "").startswith("keras_mixer") or name == "keras_mixer.prediction"
        ]
        for key in sorted(key for key in listed if not key.startswith("_")):
            value = getattr(module, key)
            if callable(value) and not isinstance(value, types.ModuleType) and id(value) not in seen:
                seen.add(id(value))
                found[f"{name}.{key}"] = value
    return found


PUBLIC = public_names()
# The place in the code, as annotations name it -> the public name.
INTERNAL = {f"{value.__module__}.{value.__qualname__}": name for name, value in PUBLIC.items()}


def write_pages() -> None:
    """Writes the generated pages of the reference and the page to try."""
    REFERENCE.mkdir(exist_ok=True)
    write(REFERENCE / "recipes.md", recipes())
    write(REFERENCE / "weights.md", weights())
    write(REFERENCE / "variants.md", variants())
    write(REFERENCE / "reported.md", reported())
    write(REFERENCE / "cli.md", command_line())
    write(REFERENCE / "messages.md", messages())
    for name in PACKAGES:
        write(REFERENCE / f"{name}.rst", api_page(name))
    if not (EXTRA / "index.html").exists():
        write_page_to_try()


def write(path: pathlib.Path, text: str) -> None:
    """Writes a file if its text changed, so that Sphinx builds only what changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def api_page(name: str) -> str:
    """Returns the reference page of a package."""
    module = package(name)
    names = [public for public in PUBLIC if public.rpartition(".")[0] == name]
    lines = [name, "=" * len(name), "", f".. py:module:: {name}", "", *inspect.getdoc(module).splitlines(), ""]
    kinds = {"Functions": inspect.isfunction, "Classes": inspect.isclass}
    for title, belongs in kinds.items():
        chosen = [public for public in names if belongs(PUBLIC[public])]
        if chosen:
            lines += [title, "-" * len(title), ""]
        for public in chosen:
            directive = "autoclass" if title == "Classes" else "autofunction"
            lines += [f".. {directive}:: {public}", *(["   :members:"] if title == "Classes" else []), ""]
    return "\n".join(lines)


def own_signature(app, what, name, obj, options, signature, returns):
    """Returns the arguments of a layer's constructor, which Keras hides behind `(*args, **kwargs)`."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    arguments = sphinx_inspect.signature(obj.__init__, bound_method=True)
    return sphinx_inspect.stringify_signature(arguments, unqualified_typehints=True), returns


def link_names(app, what, name, obj, options, lines) -> None:
    """Makes links of the public names that a docstring has in backticks."""

    def linked(match):
        full = next((text for text in (match[1], f"keras_mixer.{match[1]}") if text in PUBLIC), None)
        return f":py:obj:`~{full}`" if full and full != name else match[0]

    lines[:] = [re.sub(r"(?<![`:])`([\w.]+)`(?!`)", linked, line) for line in lines]


def resolve_internal_name(app, env, node, contnode):
    """Leads an annotation, which names the module of a class, to its public name. Private types stay plain text."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("keras_mixer"):
        return None
    if target in INTERNAL and INTERNAL[target] != target:
        return env.get_domain("py").resolve_xref(
            env, node["refdoc"], app.builder, "obj", INTERNAL[target], node, contnode
        )
    is_annotation = node.get("reftype") == "class" and not node.get("refexplicit")
    return contnode if is_annotation and target not in PUBLIC else None


# Command line


def command_line() -> str:
    """Returns the page of the commands: the help of each, as `--help` prints it."""
    lines = [
        "# The command line",
        "",
        "The help of each command, as `--help` prints it. An option that may be repeated is given once for each value,",
        "such as `--formats onnx --formats litert`.",
        "",
    ]
    lines += command_help(keras_mixer_command.make_context("keras-mixer", [], resilient_parsing=True), level=2)
    return "\n".join(lines)


def command_help(context: click.Context, level: int) -> list[str]:
    """Returns the lines of a command's help and of its sub-commands'."""
    context.terminal_width = 88
    lines = [f"{'#' * level} {context.command_path}", "", "```text", context.get_help(), "```", ""]
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            inner = click.Context(context.command.get_command(context, name), info_name=name, parent=context)
            lines += command_help(inner, level if level == 2 else level + 1)
    return lines


# Tables


def table(columns: list[str], rows: list[list]) -> list[str]:
    """Returns the lines of a Markdown table."""
    cells = [[("" if cell is None else str(cell)).replace("|", r"\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *cells]]


def recipes() -> str:
    """Returns the page of the recipes."""
    from keras_mixer.training import recipes

    rows = []
    for name, recipe in recipes.RECIPES.items():
        schedule = recipe.schedule
        length = f"{schedule.epochs:g} epochs" if schedule.epochs else f"{schedule.steps:,} updates"
        chosen = "by the number of images"
        batch = chosen if "batch_size" in recipe.suited else f"{recipe.batch_size:,}"
        length = chosen if "schedule.steps" in recipe.suited else length
        rows.append(
            [f"`{name}`", recipe.model.variant or "own sizes", recipe.data.name, batch, length, recipe.optimizer.name]
        )
    lines = [
        "# Recipes",
        "",
        "`keras-mixer train --recipe NAME` runs a recipe, `--show-recipe` prints all of its fields, and",
        "`--set FIELD=VALUE` changes any of them.",
        "",
    ]
    lines += table(["recipe", "model", "dataset", "batch", "length", "optimizer"], rows)
    lines += ["", "## What to expect", ""]
    lines += table(
        ["recipe", "expected result", "hardware"],
        [[f"`{name}`", note["expected"], note["hardware"]] for name, note in recipes.NOTES.items()],
    )
    return "\n".join(lines) + "\n"


def weights() -> str:
    """Returns the page of the published weights."""
    rows = []
    for entry in keras_mixer.weights.available():
        where = f"[file]({entry.url})" if entry.url else "in the package"
        size = "x".join(map(str, entry.preprocessing.image_size))
        rows.append(
            [
                f"`{entry.variant}`",
                f"`{entry.name}`",
                f"{entry.classes:,}",
                size,
                entry.licence,
                where,
                f"{entry.source} {entry.note}".strip(),
            ]
        )
    lines = [
        "# Published weights",
        "",
        '`weights="SET"` in a constructor loads a set, `keras-mixer weights list` prints this list.',
        "",
    ]
    return "\n".join(lines + table(["variant", "set", "classes", "image", "licence", "from", "source"], rows)) + "\n"


def variants() -> str:
    """Returns the page of the architectures and their variants."""
    lines = [
        "# Architectures and variants",
        "",
        "Every variant has a constructor. Parameters are those of a model with 1,000 classes.",
        "",
    ]
    for architecture in keras_mixer.models.architectures():
        fields = list(vars(architecture.variants[0].sizes))
        rows = [
            [
                f"{{py:obj}}`~keras_mixer.{row.constructor}`",
                f"`{row.name}`",
                row.title,
                *(getattr(row.sizes, field) for field in fields),
            ]
            for row in architecture.variants
        ]
        lines += [
            f"## {architecture.builder.__name__}",
            "",
            *table(["constructor", "variant", "in the paper", *(f"`{field}`" for field in fields)], rows),
            "",
        ]
    return "\n".join(lines)


def reported() -> str:
    """Returns the page of the results that the papers report."""
    from keras_mixer.reported import TABLE, TITLES

    lines = [
        "# Reported results",
        "",
        "What the papers report, for comparison with your own measurements.",
        "{py:class}`keras_mixer.reported.Reported` says what each column means;",
        '`keras_mixer.reported.reported("mixer_b16")` returns the rows of a model.',
        "",
    ]
    for source in dict.fromkeys(row.source for row in TABLE):
        rows = [row for row in TABLE if row.source == source]
        shown = [field for field in TITLES if any(getattr(row, field) is not None for row in rows)]
        lines += [
            f"## {source}",
            "",
            *table([TITLES[field] for field in shown], [[getattr(row, field) for field in shown] for row in rows]),
            "",
        ]
    return "\n".join(lines)


def messages() -> str:
    """Returns the page of the messages: the text of each error in the code, with `...` for what differs."""
    lines = ["# Every message", "", "The text of each error in the code. `...` stands for what differs.", ""]
    package_folder = ROOT / "keras_mixer"
    found: dict[str, set[str]] = {}
    for path in sorted(package_folder.rglob("*.py")):
        place = path.relative_to(package_folder).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                texts = filter(None, map(message_text, node.exc.args))
                found.setdefault(place, set()).update(text for text in texts if " " in text.replace("...", ""))
    for place, texts in found.items():
        if texts:
            lines += [f"## {place}", "", *(f"- {text}" for text in sorted(texts, key=str.lower)), ""]
    return "\n".join(lines)


def message_text(node: ast.expr) -> str:
    """Returns the text of a string in the code as a code span, or an empty text for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
    else:
        return ""
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


# Pages


def add_colab_link(app, docname: str, source: list[str]) -> None:
    """Puts a link to Colab below the title of a notebook. It derives from the address in pyproject.toml."""
    if not docname.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    address = app.config.html_theme_options["source_repository"]
    path = address.removeprefix("https://").removeprefix("github.com/")
    link = f"https://colab.research.google.com/github/{path}/blob/main/{docname}.ipynb"
    download = f"{{download}}`download the notebook <{pathlib.PurePosixPath(docname).name}.ipynb>`"
    cell = [f"!git clone {address}", '%pip install "./keras_mixer[tensorflow,serve]"', "%cd keras_mixer/notebooks"]
    note = [
        f"[Open in Colab]({link}), or {download}. On Colab, run this in a new first cell:",
        "",
        "```text",
        *cell,
        "```",
    ]
    first = notebook["cells"][0]
    title, _, text = "".join(first["source"]).partition("\n")
    first["source"] = "\n".join([title, "", *note, "", text])
    source[0] = json.dumps(notebook)


def write_page_to_try() -> None:
    """Exports Mixer-Nano as the web page of the site, and leads the site's root to its start page."""
    from keras_mixer.data import ModelCard
    from keras_mixer.export import export_web

    entry = keras_mixer.weights.find("mixer_nano", "cifar10")
    card = ModelCard("Mixer-Nano", keras_mixer.weights.names_of(entry), entry.preprocessing)
    EXTRA.mkdir(parents=True, exist_ok=True)
    export_web(keras_mixer.MixerNano(weights="cifar10"), EXTRA / "try", card)
    start = "docs/index.html"
    page = f'<!doctype html><title>{PACKAGES[0]}</title><meta http-equiv="refresh" content="0; url={start}">'
    (EXTRA / "index.html").write_text(f'{page}<a href="{start}">Documentation</a>\n')


def check_links(app, error) -> None:
    """Warns of each link of the written pages to a file of the site, or a place in one, that does not exist."""
    if error or app.builder.name != "html":
        return
    site = pathlib.Path(app.outdir)
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]+)"', text)):
            address = urllib.parse.urlsplit(html.unescape(link))
            if address.scheme or address.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(address.path)).resolve() if address.path else path
            place = urllib.parse.unquote(address.fragment)
            if not target.exists() or (place and target in places and place not in places[target]):
                logger.warning("%s links to %s, which does not exist.", path.relative_to(site.resolve()), link)


# Formulas


def inline_formula(translator, node) -> None:
    """Writes a formula within a line."""
    translator.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def displayed_formula(translator, node) -> None:
    """Writes a formula on a line of its own."""
    formula = latex2mathml.converter.convert(node.astext(), display="block")
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode
