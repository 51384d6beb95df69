"""What plain Keras does not do on several devices. Where a release fixes one of these, code of ours may go."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = pathlib.Path(__file__).with_name("several_devices.py")
PARTS = ("plain", "plain_chief", "plain_worker")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, str(PROGRAM), str(folder), *PARTS], env=environment, check=True, timeout=600)
    return {part: dict(np.load(folder / f"{part}.npz")) for part in PARTS}


def test_it_clips_before_it_sums(results):
    """And so its update depends on the number of devices. Ours does not, by our optimizer under Keras's own step."""
    found = results["plain"]
    assert found["update, one device"] == pytest.approx(0.01, rel=1e-4)
    assert found["update, two devices"] > 0.012
    assert found["update, two devices, ours"] == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("fit", ""),
        ("steps_per_execution", "Placeholder"),
        ("jit_compile", "StatefulPartitionedCall"),
    ],
)
def test_what_it_does_not_do_on_several_devices(results, what, fault):
    """`TensorFlowTrainingModel` gets past these; `test_equality.py` runs several steps in one call, compiled."""
    found = str(results["plain"][what])
    assert re.search(fault, found), found
    assert bool(found) == bool(fault)


@pytest.mark.parametrize("process", ["plain_chief", "plain_worker"])
def test_it_does_not_fit_in_two_processes(results, process):
    """`TensorFlowTrainingModel._maybe_symbolic_build` gets past it."""
    assert re.search("ValueError: Attempt to convert a value .PerReplica", str(results[process]["fit"]))
