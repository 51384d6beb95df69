"""Does the suite notice? Changes one place of the numeric code at a time and runs the tests that execute that place.

    make coverage                                  # records which test executes which line
    python -m benchmarks.mutants --count 400       # writes benchmarks/mutants.md

A mutant is one changed operator, comparison, number or condition. The sample is drawn with a seed and spread evenly
over the parts of `TARGETS`. One warm process imports the frameworks and forks for each mutant, so that a mutant costs
the time of its tests alone. The fastest tests run first, and the first failure ends the run. An interrupted run goes
on where it stopped, and `--again` tries the survivors once more, after tests were added.
"""

import ast
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import random
import signal
import sys
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
        return f"{self.path}:{self.lines[0]}: {self.what}"

    @property
    def key(self) -> tuple[str, str]:
        """What an earlier run knows it by: not if the file has changed since."""
        return str(self), hashlib.sha256(self.source.encode()).hexdigest()


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


def measured(tests: list[str], path: pathlib.Path) -> dict[str, float]:
    """Returns the seconds of each test that passes on the code as it is; measures them if no earlier run did."""
    if not path.exists():
        import pytest

        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        child = os.fork()  # pytest-xdist starts threads
        if child == 0:
            os._exit(pytest.main(["-q", "-n", "2", "--dist", "loadfile", *tests], plugins=[_Seconds(partial)]))
        os.waitpid(child, 0)
        partial.rename(path)
    return dict(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def start(mutant: Mutant, tests: list[str], seconds: int) -> int:
    """Runs tests on a mutant in a fork, and returns its process id."""
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

        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    return child


def outcome_of(status: int) -> str:
    """Returns "noticed", "survived" or "too long" for the status of a fork."""
    if os.WIFSIGNALED(status):
        return "too long" if os.WTERMSIG(status) == signal.SIGALRM else "noticed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "noticed"


def chosen(executing: set[str], passing: dict[str, float], seconds: float) -> list[str]:
    """Returns the fastest of the tests that execute a mutant, of so many seconds together."""
    spent, tests = 0.0, []
    for test in sorted(executing & passing.keys(), key=passing.__getitem__):
        spent += passing[test]
        if spent > seconds:
            break
        tests.append(test)
    return tests


@click.command(help=__doc__.splitlines()[0])
@click.option("--count", default=400, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--seconds", default=60, show_default=True, help="Most seconds of tests for one mutant.")
@click.option("--jobs", default=2, show_default=True, help="Mutants at a time.")
@click.option("--again", is_flag=True, help="Tries the survivors of earlier runs again.")
@click.option("--coverage", "recorded", default=".coverage", show_default=True, type=click.Path(path_type=pathlib.Path))
@click.option(
    "--folder", default=ROOT / "build/mutants", help="What is known so far.", type=click.Path(path_type=pathlib.Path)
)
@click.option("--output", default=ROOT / "benchmarks/mutants.md", type=click.Path(path_type=pathlib.Path))
def main(count, seed, seconds, jobs, again, recorded, folder, output):
    # Every fork would import these otherwise. Nothing may run in them yet, because their threads do not survive a fork.
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    folder.mkdir(parents=True, exist_ok=True)
    covered = Coverage(recorded)
    tests = {mutant: covered.tests(mutant) for mutant in sample(count, seed)}
    passing = measured(sorted(set().union(*tests.values())), folder / "seconds.jsonl")
    click.echo(f"{len(passing)} tests pass on the code as it is, in {sum(passing.values()):.0f} s.")
    known = folder / "outcomes.jsonl"
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else ()
    earlier = {tuple(key): (outcome, run) for key, outcome, run in map(json.loads, lines)}
    outcomes: dict[Mutant, tuple[str, int]] = {}
    running: dict[int, tuple[Mutant, int]] = {}

    def finish() -> None:
        child, status = os.wait()
        mutant, run = running.pop(child)
        note(mutant, outcome_of(status), run)

    def note(mutant: Mutant, outcome: str, run: int) -> None:
        outcomes[mutant] = outcome, run
        with known.open("a", encoding="utf-8") as file:
            file.write(json.dumps([mutant.key, outcome, run]) + "\n")
        click.echo(f"{len(outcomes)}/{len(tests)} {outcome}, {run} tests: {mutant}")

    for mutant, executing in tests.items():
        outcome, run = earlier.get(mutant.key, ("", 0))
        if outcome and not (again and outcome == "survived"):
            outcomes[mutant] = outcome, run
            continue
        selected = chosen(executing, passing, seconds)
        if not selected:
            note(mutant, "survived", 0)
            continue
        if len(running) == jobs:
            finish()
        running[start(mutant, selected, 4 * seconds)] = mutant, len(selected)
    while running:
        finish()
    output.write_text(report(outcomes, seed), encoding="utf-8")
    click.echo(f"Written to {output}.")


def report(outcomes: dict[Mutant, tuple[str, int]], seed: int) -> str:
    """Returns the record as Markdown."""
    lines = [
        "# Mutants",
        "",
        f"Made by `python -m benchmarks.mutants --count {len(outcomes)} --seed {seed}`. A mutant is one changed place;",
        "the tests that execute this place are run.",
        "",
        "| part | mutants | noticed | survived |",
        "|---|---:|---:|---:|",
    ]
    for part in (*TARGETS, "all"):
        of_part = [outcome for mutant, (outcome, _) in outcomes.items() if part in (mutant.part, "all")]
        survived = of_part.count("survived")
        lines.append(f"| {part} | {len(of_part)} | {100 * (1 - survived / len(of_part)):.0f} % | {survived} |")
    lines += ["", "Survivors, with the number of tests that were run:", ""]
    lines += [f"- `{mutant}` ({run})" for mutant, (outcome, run) in outcomes.items() if outcome == "survived"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
