"""`keras-mixer predict --output`: runs a job of predictions and shows how far it is."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence

LINE_EVERY = 60.0  # seconds between two lines where no bar can be shown


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """The options of the sub-command that say how, not what."""

    engine: str
    top: int
    batch_size: int
    part_size: int
    retry_errors: bool
    restart: bool
    ray_address: str | None
    workers: int | None
    worker_cpus: float
    worker_gpus: float


def run_job(options: JobOptions, images: Sequence[str], model: str, output: str, columns: dict) -> dict:
    """Predicts what is missing in the output.

    Returns:
        What was done, as a row.

    Raises:
        ValueError: If there are no images, no model, the output is of something else, or it has the names of a table
            from another one.
        RuntimeError: If images are missing or repeated at the end.
    """
    from keras_mixer.evaluation import open_classifier
    from keras_mixer.prediction import (
        PredictionStore,
        check_card,
        find_images,
        fingerprint,
        left_over,
        names_by_table,
    )

    opened = None
    if options.engine == "ray":
        check_card(model)  # to open it would take the memory of this machine's GPUs from the workers
    else:
        opened = open_classifier(model)
    store = PredictionStore(output)
    shards = find_images(images, leave_out=store.location, **columns)
    made_by = {"format": 1, "model": fingerprint(model), "top": options.top, **columns}
    store.open(made_by, restart=options.restart)
    store.admit(names_by_table(shards))  # before rows of errors go, for their names are taken too
    left = left_over(shards, store.done(retry_errors=options.retry_errors))
    total = sum(len(shard.names) for shard in shards)
    missing = sum(len(shard.names) for shard in left)
    began = time.monotonic()
    if left:
        # Ray prints notices, such as of a worker that died, where the result is to stand alone.
        with contextlib.redirect_stdout(sys.stderr):
            _watch(_parts(options, store, left, model, opened), missing)
    seconds = time.monotonic() - began
    lost = sum(len(shard.names) for shard in left_over(shards, store.done()))
    if lost:
        raise RuntimeError(f"{lost:,} of {total:,} images have no prediction; run the same command again.")
    repeated = store.repeated()
    if repeated:
        raise RuntimeError(
            f"{len(repeated):,} images have more than one row in {output}, among them {repeated[0]}: several runs "
            f"wrote there at the same time. Run the same command again, alone, with --restart."
        )
    rows, errors = store.counts()
    return {
        "images": total,
        "predicted now": missing,
        "rows in the output": rows,
        "of them unreadable": errors,
        "seconds": round(seconds, 1),
        "images/s": round(missing / seconds, 1) if missing else None,
    }


def _parts(options: JobOptions, store, shards, model: str, opened):
    from keras_mixer.prediction import Job, RayWorkers, packed, predict_on_ray, predict_to_store

    job = Job(store, options.top, options.batch_size, options.part_size)
    if options.engine == "ray":
        workers = RayWorkers(options.workers, options.worker_cpus, options.worker_gpus)
        return predict_on_ray(job, packed(model), shards, workers, address=options.ray_address)
    predictor, card = opened
    return predict_to_store(job, predictor, card, shards)


def _watch(parts: Iterable, total: int) -> None:
    """Consumes parts and shows images done, unreadable ones and the rate on standard error."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    bar = progress.Progress(
        progress.TextColumn("Predicting"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[note]}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    began = last_line = time.monotonic()
    done = errors = 0
    workers = set()
    with bar:
        task = bar.add_task("predicting", total=total, note="")
        for part in parts:
            done, errors = done + part.images, errors + part.errors
            workers.add(part.worker)
            rate = done / max(time.monotonic() - began, 1e-9)
            note = f"{rate:,.1f} images/s  {errors:,} unreadable  workers: {len(workers)}"
            bar.update(task, completed=done, note=note)
            if bar.disable and time.monotonic() - last_line >= LINE_EVERY:
                last_line = time.monotonic()
                console.print(f"{done:,} of {total:,} images  {note}", highlight=False)
