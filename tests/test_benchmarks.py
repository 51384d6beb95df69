"""The benchmark harness runs and writes its table; how fast anything is, no test says."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import benchmarks.speed
from benchmarks import gpu, training_cifar10, variants
from benchmarks.costs import memory_table
from benchmarks.readme import main as readme
from benchmarks.speed.__main__ import destination, main
from benchmarks.speed.harness import OUT_OF_TIME, Measurement, measure
from benchmarks.speed.rows import ENVIRONMENTS, Row, cpu_rows, gpu_rows
from benchmarks.speed.sizes import SIZES, flops_per_image
from benchmarks.speed.table import markdown
from keras_mixer.training import recipes


def test_smoke_run_writes_the_table(tmp_path):
    report = tmp_path / "speed.md"
    command = [sys.executable, "-m", "benchmarks.speed", "smoke", "--rounds", "2", "--output", str(report)]
    subprocess.run(command, check=True, capture_output=True)
    text = report.read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| (inference|training) \|", line)]
    assert len(rows) == 2
    for row in rows:
        images_per_second, spread, _, share = row.strip("| ").split(" | ")[-4:]
        assert float(images_per_second.replace(",", "")) > 0
        assert spread.endswith("%")
        assert 0 <= float(share) < 1
    assert "Matmul peak, float32, TensorFlow: " in text
    assert "Not measured" not in text


def test_a_part_of_the_rows_replaces_no_table(tmp_path):
    folder = pathlib.Path(benchmarks.speed.__file__).parent.parent
    assert destination("cpu", None, None) == folder / "speed_cpu.md"
    assert destination("cpu", "bfloat16", None) is None
    assert destination("cpu", "bfloat16", tmp_path / "part.md") == tmp_path / "part.md"
    result = CliRunner().invoke(main, ["cpu", "--only", "bfloat61"])
    assert result.exit_code == 2
    assert "No row of cpu has 'bfloat61'" in result.output


def test_memory_of_an_image_is_what_one_more_takes():
    """Not a share of the gradients and moments, which a batch of one needs as well."""
    peaks = {batch: 300_000_000 + 50_000_000 * batch for batch in (4, 8, 16)}
    lines = memory_table({"float32": peaks})
    assert [line.split(" | ")[2:] for line in lines[2:5]] == [["500", " |"], ["700", "50 |"], ["1,100", "50 |"]]
    assert "starts at 300 MB (float32)." in lines[-2]


FOLDER = pathlib.Path(benchmarks.speed.__file__).parent


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_timm_has_the_matmul_peak_of_its_dtype_beside_it(monkeypatch, dtype):
    monkeypatch.syspath_prepend(str(FOLDER))
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode
    from workers import timm_torch

    monkeypatch.setattr(timm_torch, "CPU_SIDE", 128)
    with FlopCounterMode(display=False) as counter:
        assert timm_torch.matmul_flops(torch.device("cpu"), getattr(torch, dtype))() > 0
    assert counter.get_total_flops() == 3 * 2 * 128**3


def test_flax_has_the_matmul_peak_of_its_dtype_beside_it():
    """In a process of its own, for a process with JAX in it can no longer fork."""
    program = (
        "from workers import jax_clock; jax_clock.CPU_SIDE = 128\n"
        "print(*(jax_clock.matmul_flops(dtype, gpu=False)() for dtype in ('float32', 'bfloat16')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=FOLDER)
    assert len([rate for rate in map(float, done.stdout.split()) if rate > 0]) == 2


def test_the_table_gives_each_framework_its_peak():
    def measured(worker, seconds, peak):
        row = Row(worker, worker, variant="tiny", batch=1)
        return Measurement(row, seconds=[seconds] * 5, matmul_flops=[peak] * 5 if peak else [])

    flops = flops_per_image("tiny", "inference")
    lines = markdown(
        [
            measured("keras_mixer_tensorflow", 1.0, 2 * flops),
            measured("timm_torch", 2.0, 4 * flops),
            measured("engine", 1.0, None),
        ],
        "command",
        "machine",
    ).splitlines()
    shares = {line.split(" | ")[4]: line.rsplit("|", 2)[1].strip() for line in lines if line.startswith("| inference")}
    assert shares == {"keras_mixer_tensorflow": "0.50", "timm_torch": "0.12", "engine": ""}
    peaks = [line.split(": ")[0] for line in lines if line.startswith("Matmul peak")]
    assert peaks == ["Matmul peak, float32, TensorFlow", "Matmul peak, float32, PyTorch"]


@pytest.mark.parametrize(("processor", "bfloat16"), [("A avx2", False), ("B amx_bf16 avx2", True)])
def test_every_row_has_a_worker_and_an_environment(processor, bfloat16, monkeypatch):
    monkeypatch.setattr(benchmarks.speed.rows, "processor", lambda: processor)
    assert ("bfloat16" in {row.dtype for row in cpu_rows()}) == bfloat16
    workers = {path.stem for path in (pathlib.Path(benchmarks.speed.__file__).parent / "workers").glob("*.py")}
    for row in [*cpu_rows(), *gpu_rows()]:
        assert row.worker in workers
        assert row.environment in {"project", *ENVIRONMENTS}
        assert row.variant in SIZES


def test_flops_are_the_published_multiply_adds():
    """Table 3 of the paper gives no MAdds; the usual count of B/16 is 12.6 G and of S/16 3.8 G multiply-adds."""
    assert round(flops_per_image("mixer_b16", "inference") / 2e9, 1) == 12.6
    assert round(flops_per_image("mixer_s16", "inference") / 2e9, 1) == 3.8


def test_the_readme_shows_the_recorded_results():
    result = CliRunner().invoke(readme, ["--check"])
    assert result.exit_code == 0, result.output


def test_records_are_what_their_scripts_write():
    record = (FOLDER.parent / "training_cifar10.md").read_text()
    found = re.findall(r"\| (\d+) px \| ([\d,]+) \| ([\d.]+) % \| ([\d,]+) \|", record)
    rows = [(pixels, int(size.replace(",", "")), float(share) / 100, int(time)) for pixels, size, share, time in found]
    made = record.splitlines()[2]
    epochs, fine_epochs = map(float, re.findall(r"epochs ([\d.]+)", made))
    assert made.startswith("Made by `python -m benchmarks.training_cifar10 FOLDER --epochs ")
    assert training_cifar10.report(rows, epochs, fine_epochs, made) == record

    lines = (FOLDER.parent / "variants.md").read_text().splitlines()
    (epochs,) = re.findall(r"^Made by `python -m benchmarks.variants ARCHIVE --epochs (\d+)` on ", lines[2])
    assert lines[:6] == variants.heading(epochs, lines[2])
    assert [line.split(" | ")[0] for line in lines[6:]] == [f"| {name}" for name in variants.VARIANTS]


def test_the_recipe_digits_expects_what_is_recorded():
    (share,) = re.findall(r"\| ([\d.]+) % \|", (FOLDER.parent / "digits.md").read_text())
    assert recipes.NOTES["digits"]["expected"].startswith(f"{share} % of the 360 test images")


def test_rows_that_time_does_not_allow_are_named():
    """One has no time to start, the other none to get ready."""
    (late,) = measure([Row("late", "keras_mixer_jax", variant="tiny")], 1, None, seconds=-1)
    assert (late.error, late.seconds) == (OUT_OF_TIME, [])
    (slow,) = measure([Row("slow", "keras_mixer_jax", variant="tiny")], 1, None, seconds=0.1)
    assert slow.error == OUT_OF_TIME
    assert "Not measured: slow, float32 inference: out of time" in markdown([slow], "made", "here")


def test_a_part_of_the_gpu_script_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "RESERVE", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    with open(tmp_path / "log.txt", "w") as log:
        assert gpu._within(1, [sys.executable, "-c", deaf], dict(os.environ), tmp_path, log) in ("out of time", -15)
        assert gpu._within(60, [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), tmp_path, log) == 3


def test_the_training_of_the_gpu_script_cools_down_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "STARTING", 0.0)
    tiny = {"hidden_dim": "8", "num_blocks": "1", "tokens_mlp_dim": "4", "channels_mlp_dim": "8"}
    changes = {"schedule.decay": "constant", "schedule.cooldown_steps": "4", "schedule.warmup_steps": "3"}
    recipe = recipes.get("digits").override({f"model.{name}": size for name, size in tiny.items()} | changes)
    found = gpu._train_until(recipe, tmp_path / "run", time.monotonic())
    assert found["steps"] == 11 + 4  # the first ten steps are not timed
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[6]) == pytest.approx(0.002 / 4)  # the last of four rates that fall to zero
