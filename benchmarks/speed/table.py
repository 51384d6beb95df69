"""Writes measurements as Markdown, with the machine, the versions and the date."""

import datetime
import pathlib
import platform
import statistics

from benchmarks.speed.harness import Measurement

HEADER = "| task | model | batch | dtype | implementation | images/s | spread | GFLOP/s | of matmul peak |"
# Whose matrix product is the peak of a worker that measures one; TensorFlow's otherwise.
FRAMEWORKS = {"timm_torch": "PyTorch", "keras_mixer_torch": "PyTorch", "flax_jax": "JAX", "keras_mixer_jax": "JAX"}
RULE = "|---|---|---:|---|---|---:|---:|---:|---:|"


def markdown(measurements: list[Measurement], command: str, machine: str) -> str:
    """The whole report; rows that could not be measured are named with the reason."""
    lines = [
        f"# Speed of {', '.join(sorted({m.row.variant for m in measurements}))}",
        "",
        f"Made by `{command}` on {datetime.date.today()}: {machine}.",
        "Processes take turns of several steps, the first of them untimed; medians over all turns, spread is half the",
        "range between the quartiles. The peak is the rate of a plain matrix product in the same process after a turn.",
        "",
        HEADER,
        RULE,
        *(_line(m) for m in measurements if not m.error),
        "",
        *(f"Matmul peak, {kind}: {rate / 1e9:,.0f} GFLOP/s (median).  " for kind, rate in _peaks(measurements)),
        "",
        *(f"Not measured: {m.row.label}, {m.row.dtype} {m.row.task}: {m.error}  " for m in measurements if m.error),
        f"Versions: {_versions(measurements)}.",
    ]
    return "\n".join(lines) + "\n"


def _line(m: Measurement) -> str:
    row = m.row
    share = f"{m.of_peak:.2f}" if m.of_peak else ""
    label = f"{row.label} ({m.note})" if m.note else row.label
    return (
        f"| {row.task} | {row.variant} | {row.batch} | {row.dtype} | {label} | {m.images_per_second:,.2f} "
        f"| {m.spread:.1%} | {m.flops / 1e9:,.0f} | {share} |"
    )


def _peaks(measurements: list[Measurement]) -> list[tuple[str, float]]:
    rates: dict[str, list[float]] = {}
    for m in measurements:
        kind = f"{m.row.dtype}, {FRAMEWORKS.get(m.row.worker, 'TensorFlow')}"
        rates.setdefault(kind, []).extend(m.matmul_flops)
    return [(kind, statistics.median(values)) for kind, values in rates.items() if values]


def _versions(measurements: list[Measurement]) -> str:
    found = {f"{name} {version}" for m in measurements for name, version in m.versions.items() if version}
    return ", ".join([f"Python {platform.python_version()}", *sorted(found)])


def machine() -> str:
    """Processor, cores and memory of this machine, in words."""
    import os

    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        model = next((line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line), model)
        features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in text]
        model = f"{model} ({', '.join(features)})"
    return f"{model}, {os.cpu_count()} cores"
