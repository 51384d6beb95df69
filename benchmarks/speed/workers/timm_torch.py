"""timm's Mixer on PyTorch, eager, under torch.compile or with dynamic int8, on the CPU or a GPU."""

import time

import torch
from sizes import CLASSES, SIZES

GPU_SIDE, CPU_SIDE = 8192, 2048


def prepare(row):
    """The step of the row and the matmul rate beside it, on a GPU timed by CUDA events."""
    timm = _import_timm()
    gpu = row["options"].get("device") == "gpu"
    device = torch.device("cuda" if gpu else "cpu")
    half = row["dtype"] == "bfloat16"
    side = SIZES[row["variant"]][-1]
    model = timm.create_model(f"{row['variant']}_224").to(device)
    images = torch.randn(row["batch"], 3, side, side, device=device)
    clock = _device_seconds if gpu else _host_seconds
    dtype = torch.bfloat16 if half else torch.float32
    if row["task"] == "inference":
        # Weights and images in bfloat16: faster here than autocast, which would cast the weights at every step.
        model, images = model.eval().to(dtype), images.to(dtype)
        if row["dtype"] == "int8":
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        forward = torch.compile(model) if row["options"].get("compile") else model

        def run():
            with torch.inference_mode():
                forward(images)
    else:
        model = model.train()
        run = training(model, torch.compile(model) if row["options"].get("compile") else model, images, half)
    return lambda: clock(run), None if row["dtype"] == "int8" else matmul_flops(device, dtype)


def training(model, forward, images, half):
    """Forward, backward, clipping and AdamW; `half` runs `forward` under autocast."""
    labels = torch.randint(0, CLASSES, (len(images),), device=images.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1, fused=images.is_cuda)

    def run():
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            logits = forward(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


def _device_seconds(step) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def _host_seconds(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def matmul_flops(device, dtype):
    """A measure of the product's rate, in floating-point operations per second: the best of three tries."""
    clock, side = (_device_seconds, GPU_SIDE) if device.type == "cuda" else (_host_seconds, CPU_SIDE)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: 2.0 * side**3 / min(clock(lambda: left @ right) for _ in range(3))


def _import_timm():
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        # The CUDA build of torchvision, beside a CPU build of PyTorch, lacks the operators that its import asks for.
        # A Mixer needs none of them: declared, they satisfy the import.
        _import_timm.library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _import_timm.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    return timm
