"""Runs one row: builds the step, then times some steps for each line that comes in, until the input ends.

Runs inside a peer's environment, so it imports nothing of the project and nothing that is not in Python itself.
Protocol, one JSON object a line on standard output: first `{"ready": true, ...}` or `{"error": ...}`, then
`{"seconds": [...], "matmul_flops": ...}` for each line read.
"""

import importlib
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

WARM_UP_STEPS = 2
# The first step of a turn finds caches and threads as another process left them, so it is not timed.
STEPS_PER_TURN = 3
SECONDS_PER_TURN = 4.0  # after which no further step begins


def main() -> None:
    """Serves the row given as JSON in the first argument."""
    row = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries that print must not disturb the protocol

    def answer(**fields):
        print(json.dumps(fields), file=answers, flush=True)

    try:
        # `prepare` gives a step that returns when its result is there, and a measure of the matmul peak, or None.
        worker = importlib.import_module(f"workers.{row['worker']}")
        step, matmul_flops = worker.prepare(row)
        for _ in range(WARM_UP_STEPS):
            step()
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}"[:300])
        return
    answer(ready=True, versions=_versions(), note=getattr(worker, "note", None))
    for _ in sys.stdin:
        step()
        seconds = [_seconds(step)]
        while len(seconds) < STEPS_PER_TURN and sum(seconds) < SECONDS_PER_TURN:
            seconds.append(_seconds(step))
        answer(seconds=seconds, matmul_flops=matmul_flops() if matmul_flops else None)


def _seconds(step) -> float:
    start = time.perf_counter()
    device_seconds = step()  # a step on an accelerator may report the device's own clock
    return device_seconds or time.perf_counter() - start


def _versions() -> dict:
    names = (
        "tensorflow",
        "keras",
        "jax",
        "torch",
        "timm",
        "flax",
        "kecam",
        "openvino",
        "ai_edge_litert",
        "keras_mixer",
    )
    loaded = {name: sys.modules[name] for name in names if name in sys.modules}
    return {name: getattr(module, "__version__", "") for name, module in loaded.items()}


if __name__ == "__main__":
    main()
