"""What is compared: each row is one implementation doing one job, run by a worker in an environment of its own."""

import dataclasses

from keras_mixer.machine import processor


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: What the table calls it.
        worker: Module of `benchmarks/speed/workers` that runs it.
        environment: Key of `ENVIRONMENTS`; "project" is the interpreter that runs the benchmark.
        dtype: "float32", "bfloat16" or "int8"; for LiteRT "dynamic int8" and "full int8".
        task: "inference" or "training".
        variant: Name of the Mixer, as in `keras_mixer.models.VARIANTS`.
        batch: Images per step.
        options: Whatever else the worker wants to know.
    """

    label: str
    worker: str
    environment: str = "project"
    dtype: str = "float32"
    task: str = "inference"
    variant: str = "mixer_b16"
    batch: int = 8
    options: dict = dataclasses.field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str, str]:
        """Rows of one group take turns; more processes at once would not fit in memory."""
        return self.task, self.variant, "int8" if self.worker == "litert" or "int8" in self.dtype else self.dtype


# Requirements of the peers' environments. Peers are installed without dependencies where those would pull gigabytes
# that the measured path does not use.
ENVIRONMENTS = {
    "timm": (
        ["torch==2.13.0", "numpy", "pyyaml", "huggingface_hub", "safetensors", "pillow"],
        ["timm==1.0.31", "torchvision==0.28.0"],
    ),
    "flax": (["flax", "jax", "optax"], []),
    "kecam": (["tensorflow-cpu==2.15.*", "keras==2.15.*", "kecam==1.4.3"], []),
}


# TensorFlow keeps each weight as oneDNN has laid it out at its first use: for processes that only predict.
FROZEN = {"variables": {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}}


def cpu_rows() -> list[Row]:
    """The comparison of `benchmarks/speed_cpu.md`; in bfloat16 only on processors that do not emulate it."""
    dtypes = ("float32", "bfloat16") if "bf16" in processor() else ("float32",)
    rows = []
    for dtype in dtypes:
        rows += [
            Row("keras_mixer (TensorFlow)", "keras_mixer_tensorflow", dtype=dtype),
            Row("plain Keras layers, Dense and Permute", "plain_keras", dtype=dtype),
            Row("timm, eager", "timm_torch", "timm", dtype=dtype),
            Row("timm, compiled", "timm_torch", "timm", dtype=dtype, options={"compile": True}),
            Row("Flax, jit", "flax_jax", "flax", dtype=dtype),
            Row("keras_mixer (JAX)", "keras_mixer_jax", dtype=dtype),
            Row("keras_mixer (PyTorch, compiled)", "engine", dtype=dtype, options={"engine": "torch"}),
            Row("keras_mixer under OpenVINO", "engine", dtype=dtype, options={"engine": "openvino"}),
            Row("keras_mixer, engine auto", "engine", dtype=dtype, options={"engine": "auto"}),
        ]
    if "bfloat16" in dtypes:
        rows.append(
            Row("keras_mixer (TensorFlow), weights frozen", "keras_mixer_tensorflow", dtype="bfloat16", options=FROZEN)
        )
    rows.append(Row("kecam (TensorFlow 2.15)", "kecam_tensorflow", "kecam"))
    rows += [
        Row("keras_mixer under LiteRT", "litert", dtype=dtype, batch=1)
        for dtype in ("float32", "dynamic int8", "full int8")
    ]
    rows += [
        Row("keras_mixer under OpenVINO", "engine", dtype="int8", options={"engine": "openvino"}),
        Row("keras_mixer, engine auto", "engine", dtype="int8", options={"engine": "auto"}),
        Row("timm, eager, dynamic int8 of its Linear layers", "timm_torch", "timm", dtype="int8"),
    ]
    for dtype in dtypes:
        training = {"task": "training", "variant": "mixer_s16", "batch": 16, "dtype": dtype}
        rows += [
            Row("keras_mixer (TensorFlow)", "keras_mixer_tensorflow", **training),
            Row("keras_mixer (JAX)", "keras_mixer_jax", **training),
            Row("keras_mixer (PyTorch, eager)", "keras_mixer_torch", **training),
            Row("keras_mixer (PyTorch, compiled)", "keras_mixer_torch", options={"compile": True}, **training),
            Row("timm, eager", "timm_torch", "timm", **training),
            Row("timm, compiled", "timm_torch", "timm", options={"compile": True}, **training),
        ]
    return rows


def gpu_rows() -> list[Row]:
    """The comparison of `benchmarks/speed_gpu.md`; every worker runs in the project's own interpreter."""
    return _beside_peers(("mixer_b16", "mixer_l16"), {"inference": 256, "training": 128}, {"device": "gpu"})


def gpu_smoke_rows() -> list[Row]:
    """The same small and on a CPU, to rehearse it."""
    return _beside_peers(("mixer_s16",), {"inference": 2, "training": 2}, {})


def _beside_peers(variants: tuple[str, ...], batches: dict[str, int], device: dict) -> list[Row]:
    rows = []
    for variant in variants:
        for task, batch in batches.items():
            job = {"task": task, "variant": variant, "batch": batch, "dtype": "bfloat16"}
            rows += [
                Row("keras_mixer (JAX)", "keras_mixer_jax", options=device, **job),
                Row("timm, compiled", "timm_torch", options={"compile": True, **device}, **job),
                Row("Flax, jit", "flax_jax", options=device, **job),
            ]
    return rows


def smoke_rows() -> list[Row]:
    """Seconds of work on a tiny model, to check the harness itself."""
    return [
        Row("keras_mixer (TensorFlow)", "keras_mixer_tensorflow", variant="tiny", batch=2),
        Row("keras_mixer (TensorFlow)", "keras_mixer_tensorflow", variant="tiny", batch=2, task="training"),
    ]
