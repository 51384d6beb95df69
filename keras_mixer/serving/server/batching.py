"""Runs requests that wait at the same time as one batch. Each signature of a version has its own queue."""

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from keras_mixer.cores import usable_cores
from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.server.config import Batching
from keras_mixer.serving.server.metrics import Metrics
from keras_mixer.serving.server.servable import Servable, Signature

Arrays = Mapping[str, np.ndarray]


@dataclass
class _Task:
    inputs: Arrays
    rows: int
    due: float
    result: asyncio.Future


@dataclass
class _Queue:
    servable: Servable
    signature: Signature
    tasks: deque[_Task] = field(default_factory=deque)
    rows: int = 0


class Batcher:
    """Runs checked requests in batches, on its own threads. It belongs to one event loop.

    When a thread is free, a batch starts in one of three cases: it is full; it holds as many rows as were recently in
    progress at the same time, so that a single client does not wait for others; or its first request has waited for the
    timeout. Requests that arrive later join the next batch. If a batch fails, its requests run again one by one, so
    that a bad request does not affect others.

    Without `options`, each request runs alone, and as many run in parallel as there are processors.
    """

    def __init__(self, options: Batching | None, metrics: Metrics):
        self._batched = options is not None
        self._options = options or Batching(num_batch_threads=usable_cores())
        self._metrics = metrics
        self._free = self._options.num_batch_threads
        self._threads = ThreadPoolExecutor(self._free, thread_name_prefix="keras_mixer_batch")
        self._queues: dict[tuple, _Queue] = {}
        self._stopping = False
        self._in_progress = 0  # rows that wait or run
        self._recent_peak = 0.0  # recent maximum of rows in progress; falls with every batch

    async def run(self, servable: Servable, signature: Signature, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs checked inputs. Raises a RequestError if the model fails, or too many requests wait (UNAVAILABLE)."""
        loop = asyncio.get_running_loop()
        rows = len(next(iter(inputs.values()))) if self._batched and signature.batchable else 0
        if not rows:
            return await loop.run_in_executor(self._threads, servable.run, signature.name, inputs)
        size = self._options.max_batch_size
        if rows <= size:
            return await self._enqueue(loop, servable, signature, inputs)
        parts = [
            {name: array[start : start + size] for name, array in inputs.items()} for start in range(0, rows, size)
        ]
        # Few parts wait at a time, so that other requests find room in the queue and are soon answered.
        at_once = min(2 * self._options.num_batch_threads, self._options.max_enqueued_batches)
        outputs: list[Arrays] = []
        for first in range(0, len(parts), at_once):
            some = (self._enqueue(loop, servable, signature, part) for part in parts[first : first + at_once])
            outputs += await asyncio.gather(*some)
        return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}

    def _enqueue(self, loop, servable, signature, inputs) -> asyncio.Future:
        options = self._options
        rows = len(next(iter(inputs.values())))
        # Inner axes may be of any length too, but only arrays of one shape can be concatenated.
        key = (id(servable), signature.name, *(array.shape[1:] for _, array in sorted(inputs.items())))
        queue = self._queues.setdefault(key, _Queue(servable, signature))
        result = loop.create_future()
        if queue.rows + rows > options.max_enqueued_batches * options.max_batch_size:
            result.set_exception(RequestError("UNAVAILABLE", "The batching queue is full: try again later."))
            return result
        wait = options.batch_timeout_micros / 1e6
        queue.tasks.append(_Task(inputs, rows, loop.time() + wait, result))
        queue.rows += rows
        self._in_progress += rows
        self._recent_peak = max(self._recent_peak, self._in_progress)
        if queue.rows >= self._enough:
            loop.call_soon(self._dispatch, loop)  # after all requests that arrived together
        elif len(queue.tasks) == 1:
            loop.call_later(wait, self._dispatch, loop)
        return result

    @property
    def _enough(self) -> int:
        """The number of rows that a batch waits for."""
        return 1 if self._stopping else min(self._options.max_batch_size, round(self._recent_peak))

    def _dispatch(self, loop) -> None:
        """Starts batches that are due while threads are free. The batch that has waited longest starts first."""
        # A timer may fire slightly before its time, within the clock's resolution.
        now = loop.time() + 1e-3
        while self._free:
            due = [
                (queue.tasks[0].due, key)
                for key, queue in self._queues.items()
                if queue.tasks[0].due <= now or queue.rows >= self._enough
            ]
            if not due:
                return
            key = min(due)[1]
            queue = self._queues[key]
            batch = self._take(queue)
            if not queue.tasks:
                del self._queues[key]  # also releases the version
            else:
                loop.call_at(queue.tasks[0].due, self._dispatch, loop)
            if batch:
                self._free -= 1
                work = loop.run_in_executor(self._threads, self._execute, queue.servable, queue.signature, batch)
                work.add_done_callback(lambda work, batch=batch: self._finish(loop, batch, work))

    def _take(self, queue: _Queue) -> list[_Task]:
        batch: list[_Task] = []
        rows = 0
        while queue.tasks and rows + queue.tasks[0].rows <= self._options.max_batch_size:
            task = queue.tasks.popleft()
            queue.rows -= task.rows
            if task.result.done():  # its caller has gone
                self._in_progress -= task.rows
            else:
                batch.append(task)
                rows += task.rows
        return batch

    def _finish(self, loop, batch: list[_Task], work: asyncio.Future) -> None:
        self._free += 1
        self._in_progress -= sum(task.rows for task in batch)
        self._recent_peak = max(self._in_progress, 0.9 * self._recent_peak)
        if not work.cancelled():
            error = work.exception()
            for task, result in zip(batch, [error] * len(batch) if error else work.result(), strict=True):
                if task.result.done():  # its caller has gone
                    continue
                if isinstance(result, BaseException):
                    task.result.set_exception(result)
                else:
                    task.result.set_result(result)
        self._dispatch(loop)

    def _execute(self, servable: Servable, signature: Signature, batch: list[_Task]) -> list:
        """Returns each task's outputs or its own error. Runs on a batch thread."""
        rows = sum(task.rows for task in batch)
        size = self._options.padded_size(rows)
        self._metrics.batches.labels(servable.name).observe(rows)
        try:
            outputs = servable.run(signature.name, _gather([task.inputs for task in batch], size - rows))
        except RequestError as error:
            if len(batch) == 1:
                return [error]
            return [self._execute(servable, signature, [task])[0] for task in batch]
        if any(len(array) != size for array in outputs.values()):
            shapes = {name: array.shape for name, array in outputs.items()}
            message = f"A batch of {size} rows gave outputs of shapes {shapes}: serve this model without batching."
            return [RequestError("INTERNAL", message)] * len(batch)
        edges = np.cumsum([0, *(task.rows for task in batch)])
        return [{name: array[start:end] for name, array in outputs.items()} for start, end in itertools.pairwise(edges)]

    def stop_waiting(self) -> None:
        """From now on runs every request immediately, because the server is stopping. Call it on the event loop."""
        self._stopping = True
        self._dispatch(asyncio.get_running_loop())

    def close(self) -> None:
        """Stops the threads once their work is done."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _gather(parts: list[Arrays], padding: int) -> Arrays:
    if padding:
        parts = [*parts, {name: np.repeat(array[-1:], padding, axis=0) for name, array in parts[-1].items()}]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
