"""Programs of other people, in environments of their own: what they are given, and what they should find."""

import dataclasses
import pathlib
import shutil
import subprocess
import venv

import numpy as np

PROGRAMS = pathlib.Path(__file__).parents[1] / "interop" / "programs"
ENVIRONMENTS = pathlib.Path(__file__).parents[2] / ".environments" / "interop"


@dataclasses.dataclass(frozen=True)
class Example:
    """What every program is given, and what it should find.

    Attributes:
        folder: The model's files; `images.npz` has the preprocessed `images`, `files.txt` the paths of the photographs.
        scores: The Keras model's scores.
        class_names: Its classes.
    """

    folder: pathlib.Path
    scores: np.ndarray
    class_names: tuple[str, ...]


def python_environment(name: str, *requirements: str) -> str:
    """Returns the interpreter of an environment with these packages, which is made once."""
    folder = ENVIRONMENTS / name
    python, done = folder / "bin" / "python", folder / "requirements.txt"
    if not done.exists() or done.read_text() != "\n".join(requirements):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        done.write_text("\n".join(requirements))
    return str(python)


def node_environment(name: str, *packages: str) -> dict[str, str]:
    """Returns the variables by which Node finds these packages, which are installed once."""
    folder = ENVIRONMENTS / name
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = [
            "npm",
            "install",
            "--silent",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
            *packages,
        ]
        subprocess.run(install, check=True)
    return {"NODE_PATH": str(folder / "node_modules")}


def run(*command, **variables) -> str:
    """Runs a program outside of the checkout, so that it cannot import this package, and returns what it printed."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(ENVIRONMENTS), **variables}
    done = subprocess.run(map(str, command), capture_output=True, text=True, env=environment, cwd=ENVIRONMENTS)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def largest_difference(example: Example, found, capsys, what: str) -> float:
    """Returns the largest difference of a program's scores from the model's, and prints it for `docs/interop.md`."""
    found = np.asarray(found, np.float32)
    assert found.shape == example.scores.shape
    difference = float(np.abs(found - example.scores).max())
    with capsys.disabled():
        print(f"\n{what}: {difference:.1e}")
    return difference
