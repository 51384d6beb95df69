"""Does the suite notice? Changes one place of the numeric code at a time and runs the tests.

    make coverage                                  # records which test executes which line
    python -m benchmarks.mutants --count 400       # writes benchmarks/mutants.md

A mutant is one changed operator, comparison, number or condition. The sample is drawn with a seed and spread evenly
over the parts of `TARGETS`. One warm process imports the frameworks and forks for each mutant, so that a mutant costs
the time of its tests alone. The tests that execute the place run first, and the first failure ends the run. An
interrupted run goes on where it stopped, and tries survivors again if `--seconds` now allows more tests. `--again`
tries them in any case, after tests were added.
"""

import ast
import collections
import contextlib
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator

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
        """Identifies the mutant in later runs. A change of the file changes it."""
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

    def tests(self, mutant: Mutant) -> tuple[set[str], set[str]]:
        """Returns the tests that execute a mutant's lines, and further tests that may notice it.

        Further tests are the others of the same files: what a line makes may be kept, such as a compiled graph, and
        used without executing the line again. Lines that run at import stand for all lines of their file, and any other
        test may use what they make.
        """
        path = str(ROOT / mutant.path)
        lines = self._known.setdefault(mutant.path, self._data.contexts_by_lineno(path))
        first, last = mutant.lines
        contexts = {context for line in range(first, last + 1) for context in lines.get(line, ())}
        at_import = contexts == {""}
        executing = _tests_of(itertools.chain(*lines.values()) if at_import else contexts)
        files = {file_of(test) for test in executing}
        everything = _tests_of(self._data.measured_contexts())
        return executing, {test for test in everything - executing if at_import or file_of(test) in files}


def _tests_of(contexts: Iterable[str]) -> set[str]:
    """Returns the tests of contexts, behind which stands "|setup", "|run" or "|teardown"."""
    return {context.rpartition("|")[0] for context in contexts if context}


def file_of(test: str) -> str:
    return test.partition("::")[0]


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
    """A plugin of pytest that counts the seconds of each test that passes, with what it sets up and tears down."""

    def __init__(self):
        self.of: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report):
        self.of[report.nodeid] = self.of.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self._failed.add(report.nodeid)

    def write(self, path: pathlib.Path) -> None:
        passing = {test: seconds for test, seconds in self.of.items() if test not in self._failed}
        path.write_text(json.dumps(passing), encoding="utf-8")


@dataclasses.dataclass
class Run:
    """Tests that run in a fork of this process.

    Attributes:
        tests: Their names.
        seconds: After which they count as failed.
        folder: For their temporary files; removed at the end.
        mutant: The change to make, or None for the code as it is.
    """

    tests: list[str]
    seconds: int
    folder: pathlib.Path
    mutant: Mutant | None = None

    def start(self) -> int:
        """Returns the process's number, which is also that of a session of its own."""
        shutil.rmtree(self.folder, ignore_errors=True)  # that of a killed run
        self.folder.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            os.setsid()
            signal.alarm(self.seconds)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            _Finder.mutant = self.mutant
            sys.meta_path.insert(0, _Finder)
            import pytest

            options = ["-q", "-p", "no:cacheprovider", f"--basetemp={self.folder / 'temporary'}"]
            if self.mutant:
                options.append("-x")
            clock = _Seconds()
            status = pytest.main([*options, *self.tests], plugins=[clock])
            clock.write(self.folder / "seconds.json")
            os._exit(status)
        return child

    def passed(self) -> dict[str, float | None]:
        """Returns the seconds of each test, or None if it did not pass."""
        file = self.folder / "seconds.json"
        passing = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return {test: passing.get(test) for test in self.tests}


def finished(runs: Iterable[Run], jobs: int) -> Iterator[tuple[Run, int]]:
    """Runs some at a time. Yields each with its status, and then ends the processes that its tests left."""
    running: dict[int, Run] = {}
    todo = iter(runs)
    try:
        while True:
            for run in itertools.islice(todo, jobs - len(running)):
                running[run.start()] = run
            if not running:
                return
            child, status = os.wait()
            run = running.pop(child)
            yield run, status
            _end(child, run)
    finally:
        for child, run in running.items():
            _end(child, run)


def _end(child: int, run: Run) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    shutil.rmtree(run.folder, ignore_errors=True)


def outcome_of(status: int) -> str:
    """Returns "noticed", "survived" or "too long" for the status of a run."""
    if os.WIFSIGNALED(status):
        return "too long" if os.WTERMSIG(status) == signal.SIGALRM else "noticed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "noticed"


def measured(tests: Iterable[str], folder: pathlib.Path, jobs: int) -> dict[str, float]:
    """Returns the seconds of each test that passes on the code as it is, in a fork as a mutant's tests are run.

    Measures those that no earlier run has measured.
    """
    path = folder / "seconds.jsonl"
    known: dict[str, float | None] = dict(_lines(path))
    files = collections.defaultdict(list)
    for test in sorted(set(tests) - known.keys()):
        files[file_of(test)].append(test)
    runs = (Run(names, 3600, folder / f"run{number}") for number, names in enumerate(files.values()))
    for number, (run, _) in enumerate(finished(runs, jobs), 1):
        _append(path, *run.passed().items())
        known.update(run.passed())
        click.echo(f"{number}/{len(files)} files measured: {file_of(run.tests[0])}")
    return {test: seconds for test, seconds in known.items() if seconds is not None}


def _lines(path: pathlib.Path) -> list:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _append(path: pathlib.Path, *rows) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def chosen(mutant: Mutant, tests: set[str], passing: dict[str, float], seconds: float) -> list[str]:
    """Returns tests of so many seconds together: those of the file's own test file first, and then the fastest."""
    own = f"/test_{pathlib.Path(mutant.path).name}"
    spent, selected = 0.0, []
    for test in sorted(tests & passing.keys(), key=lambda test: (not file_of(test).endswith(own), passing[test])):
        spent += passing[test]
        if spent > seconds:
            break
        selected.append(test)
    return selected


@click.command(help=__doc__.splitlines()[0])
@click.option("--count", default=400, show_default=True, type=click.IntRange(len(TARGETS)))
@click.option("--seed", default=0, show_default=True)
@click.option("--seconds", default=60, show_default=True, help="Most seconds of tests for one mutant.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Mutants at a time.")
@click.option("--again", is_flag=True, help="Tries the survivors of earlier runs again.")
@click.option("--coverage", "recorded", default=".coverage", show_default=True, type=click.Path(path_type=pathlib.Path))
@click.option("--folder", default=ROOT / "build/mutants", type=click.Path(path_type=pathlib.Path), help="For resuming.")
@click.option("--output", default=ROOT / "benchmarks/mutants.md", type=click.Path(path_type=pathlib.Path))
def main(count, seed, seconds, jobs, again, recorded, folder, output):
    # Every fork would import these otherwise. Nothing may run in them yet, because their threads do not survive a fork.
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    folder.mkdir(parents=True, exist_ok=True)
    covered = Coverage(recorded)
    tests = {mutant: covered.tests(mutant) for mutant in sample(count, seed)}
    passing = measured(set().union(*itertools.chain(*tests.values())), folder, jobs)
    known = folder / "outcomes.jsonl"
    earlier = {tuple(key): (outcome, number) for key, outcome, number in _lines(known)}
    outcomes = dict.fromkeys(tests, ("survived", 0))
    for further in (0, 1):  # collecting further tests takes long, so that only survivors get them
        runs: list[Run] = []
        for mutant in [mutant for mutant, (outcome, _) in outcomes.items() if outcome == "survived"]:
            selected = chosen(mutant, tests[mutant][further], passing, seconds)
            outcome, number = earlier.get((*mutant.key, further), ("", 0))
            enough = number >= len(selected) and not (again and outcome == "survived")
            if outcome == "noticed" or (outcome and enough):
                outcomes[mutant] = outcome, outcomes[mutant][1] + number
            elif selected:
                runs.append(Run(selected, 4 * seconds, folder / f"run{len(runs)}", mutant))
        for done, (run, status) in enumerate(finished(runs, jobs), 1):
            outcome, number = outcome_of(status), len(run.tests)
            outcomes[run.mutant] = outcome, outcomes[run.mutant][1] + number
            _append(known, [(*run.mutant.key, further), outcome, number])
            click.echo(f"{done}/{len(runs)} {outcome}, {number} tests: {run.mutant}")
    command = f"python -m benchmarks.mutants --count {count} --seed {seed} --seconds {seconds}"
    output.write_text(report(outcomes, command), encoding="utf-8")
    click.echo(f"Written to {output}.")


def report(outcomes: dict[Mutant, tuple[str, int]], command: str) -> str:
    """Returns the record as Markdown."""
    lines = [
        "# Mutants",
        "",
        f"Made by `{command}`. A mutant is one changed place.",
        "Tests that execute this place are run, of so many seconds together: those of the file's own test file first, "
        "then the fastest. What survives then meets as many seconds of further tests: the others of the same files, or "
        "any others if the place runs at import. Tests that take four times as long count as failed.",
        "",
        "| part | mutants | noticed | survived |",
        "|---|---:|---:|---:|",
    ]
    for part in (*TARGETS, "all"):
        of_part = [outcome for mutant, (outcome, _) in outcomes.items() if part in (mutant.part, "all")]
        survived = of_part.count("survived")
        lines.append(f"| {part} | {len(of_part)} | {100 * (1 - survived / len(of_part)):.0f} % | {survived} |")
    lines += ["", "Survivors, with the number of tests that were run:", ""]
    lines += [f"- `{mutant}` ({number})" for mutant, (outcome, number) in outcomes.items() if outcome == "survived"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
