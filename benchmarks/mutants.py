"""Does the suite notice? Changes one place of the numeric code at a time and runs the tests that execute that place.

    make coverage                                  # records which test executes which line
    python -m benchmarks.mutants --count 400       # writes benchmarks/mutants.md

A mutant is one changed operator, comparison, number or condition. The sample is drawn with a seed and spread evenly
over the parts of `TARGETS`. One warm process imports the frameworks and forks for each mutant, so that a mutant costs
the time of its tests alone. The fastest tests run first, and the first failure ends the run.
"""

import ast
import collections
import dataclasses
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator

import click

ROOT = pathlib.Path(__file__).parents[1]
TARGETS = {
    "layers": ["keras_mixer/layers"],
    "models": ["keras_mixer/models", "keras_mixer/constructors.py"],
    "weights": ["keras_mixer/weights"],
    "data": ["keras_mixer/preprocessing.py", "keras_mixer/images.py", "keras_mixer/data"],
    "training": ["keras_mixer/training"],
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One changed place.

    Attributes:
        part: The part of `TARGETS` that it was drawn from.
        path: The file, relative to the repository.
        lines: First and last line of the changed expression.
        what: The change in words.
        source: The whole changed file.
    """

    part: str
    path: str
    lines: tuple[int, int]
    what: str
    source: str

    def __str__(self):
        return f"{self.path}:{self.lines[0]} {self.what}"


def mutant_of(part: str, path: pathlib.Path, number: int) -> Mutant:
    """Makes one of the mutants of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node, field, new, what = list(_changes(tree))[number]
    where = node.test if isinstance(node, (ast.If, ast.IfExp)) else node
    lines = (where.lineno, where.end_lineno or where.lineno)
    setattr(node, field, new)
    return Mutant(part, str(path.relative_to(ROOT)), lines, what, ast.unparse(ast.fix_missing_locations(tree)))


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, object, str]]:
    """Yields (node, field, new value, words) for each place that can change, in the order of the file."""
    for node in _code(tree):
        if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            new = OPERATORS[type(node.op)]
            yield node, "op", new(), f"{type(node.op).__name__} -> {new.__name__}"
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
            new = OPERATORS[type(node.ops[0])]
            yield node, "ops", [new()], f"{type(node.ops[0]).__name__} -> {new.__name__}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, "value", not node.value, f"{node.value} -> {not node.value}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            yield node, "value", node.value + 1, f"{node.value} -> {node.value + 1}"
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield node, "test", ast.UnaryOp(ast.Not(), node.test), "condition negated"


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Walks the nodes that run; leaves out annotations, error messages and blocks for type checkers."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
        return
    if hasattr(node, "lineno"):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def sample(count: int, seed: int) -> list[Mutant]:
    """Draws mutants, the same number from each part as far as it has as many."""
    chosen = []
    for part, roots in TARGETS.items():
        files = [file for place in roots for file in sorted((ROOT / place).rglob("*.py")) or [ROOT / place]]
        places = [
            (file, number) for file in files for number in range(len(list(_changes(ast.parse(file.read_text())))))
        ]
        drawn = random.Random(f"{seed} {part}").sample(places, min(len(places), count // len(TARGETS)))
        chosen += [mutant_of(part, file, number) for file, number in drawn]
    return chosen


class Coverage:
    """Which tests execute which lines, as `make coverage` recorded it."""

    def __init__(self, path: pathlib.Path):
        import coverage

        self._data = coverage.CoverageData(str(path))
        self._data.read()
        self._known: dict[str, dict[int, list[str]]] = {}

    def tests(self, mutant: Mutant) -> set[str]:
        """Returns the tests that execute a mutant's lines; for lines that run at import, those that use the file."""
        path = str(ROOT / mutant.path)
        lines = self._known.setdefault(mutant.path, self._data.contexts_by_lineno(path))
        first, last = mutant.lines
        contexts = {context for line in range(first, last + 1) for context in lines.get(line, ())}
        if contexts == {""}:
            contexts = {context for line in lines.values() for context in line}
        return {context.rpartition("|")[0] for context in contexts if "|" in context}


class _ChangedLoader(importlib.machinery.SourceFileLoader):
    source = ""

    def get_code(self, fullname):
        return compile(self.source, self.path, "exec")


class _Finder(importlib.machinery.PathFinder):
    mutant: Mutant | None = None

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        found = super().find_spec(fullname, path, target)
        if not (found and found.origin and cls.mutant and pathlib.Path(found.origin) == ROOT / cls.mutant.path):
            return found
        loader = _ChangedLoader(fullname, found.origin)
        loader.source = cls.mutant.source
        return importlib.util.spec_from_file_location(
            fullname, found.origin, loader=loader, submodule_search_locations=found.submodule_search_locations
        )


class _Seconds:
    """A plugin of pytest that writes what each test takes to a file."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def pytest_runtest_logreport(self, report):
        if report.passed and report.when == "call":
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps([report.nodeid, report.duration]) + "\n")


def run(mutant: Mutant | None, tests: list[str], seconds: int, record: pathlib.Path | None = None) -> str:
    """Runs tests in a fork, on a mutant or on the code as it is, and returns "noticed", "survived" or "too long"."""
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.alarm(seconds)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        _Finder.mutant = mutant
        sys.meta_path.insert(0, _Finder)
        import pytest

        plugins = [_Seconds(record)] if record else []
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", *(["-x"] if mutant else [])]
        os._exit(pytest.main([*options, *tests], plugins=plugins))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "too long" if os.WTERMSIG(status) == signal.SIGALRM else "noticed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "noticed"


@click.command(help=__doc__.splitlines()[0])
@click.option("--count", default=400, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--seconds", default=120, show_default=True, help="Most seconds of tests for one mutant.")
@click.option("--coverage", "recorded", default=".coverage", show_default=True, type=click.Path(path_type=pathlib.Path))
@click.option("--output", default=ROOT / "benchmarks/mutants.md", type=click.Path(path_type=pathlib.Path))
def main(count, seed, seconds, recorded, output):
    # Every fork would import these otherwise. Nothing may run in them yet, because their threads do not survive a fork.
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    covered = Coverage(recorded)
    tests = {mutant: covered.tests(mutant) for mutant in sample(count, seed)}
    with tempfile.TemporaryDirectory() as folder:
        record = pathlib.Path(folder) / "seconds"
        run(None, sorted(set().union(*tests.values())), 3 * 3600, record)
        passing = dict(json.loads(line) for line in record.read_text().splitlines())
    click.echo(f"{len(passing)} tests pass on the code as it is, in {sum(passing.values()):.0f} s.")
    outcomes: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    survivors = []
    for number, (mutant, executing) in enumerate(tests.items(), 1):
        begin, spent, chosen = time.monotonic(), 0.0, []
        for test in sorted(executing & passing.keys(), key=passing.__getitem__):
            spent += passing[test]
            if spent > seconds:
                break
            chosen.append(test)
        outcome = run(mutant, chosen, 4 * seconds) if chosen else "survived"
        outcomes[mutant.part][outcome] += 1
        if outcome == "survived":
            survivors.append((mutant, len(chosen)))
        taken = time.monotonic() - begin
        click.echo(f"{number}/{len(tests)} {outcome}, {len(chosen)} tests, {taken:.0f} s: {mutant}")
    output.write_text(report(outcomes, survivors, seed))
    click.echo(f"Written to {output}.")


def report(outcomes: dict[str, collections.Counter], survivors: list[tuple[Mutant, int]], seed: int) -> str:
    """Returns the record as Markdown."""
    total: collections.Counter = sum(outcomes.values(), collections.Counter())
    lines = [
        "# Mutants",
        "",
        f"Made by `python -m benchmarks.mutants --seed {seed}`. Each mutant changes one place. The tests that execute",
        "this place are run.",
        "",
        "| part | mutants | noticed | survived |",
        "|---|---:|---:|---:|",
    ]
    for name, counts in [*sorted(outcomes.items()), ("all", total)]:
        noticed = counts.total() - counts["survived"]
        lines.append(f"| {name} | {counts.total()} | {100 * noticed / counts.total():.0f} % | {counts['survived']} |")
    lines += ["", "Survivors, with the number of tests that were run:", ""]
    lines += [f"- `{mutant.path}:{mutant.lines[0]}`: {mutant.what} ({run})" for mutant, run in survivors]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
