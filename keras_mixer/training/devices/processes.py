"""Several processes of the JAX backend: how one joins the others, and how it learns that another has ended."""

import atexit
import contextlib
import ctypes
import dataclasses
import os
import selectors
import socket
import threading
from collections.abc import Iterator

import keras

COORDINATOR, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# Seconds. A killed process closes its connections, which the others notice at once. A host that is gone without a word
# is noticed by the connections first, and then by JAX itself, which aborts the process.
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
HEARTBEAT = 20
SHUTDOWN = 24 * 3600  # a process that has nothing left to do waits for one that still exports or evaluates
CONNECT = 30
GRACE = 10  # after an error in another process, time for this one to report the same error itself
_DONE, _FAILED, _GONE = b".", b"!", b"#"


def join() -> None:
    """Joins the processes that the environment names, once per process and before the first use of JAX.

    The environment is that of a TPU pod, SLURM, Open MPI or a Kubernetes job, as JAX detects it, or the variables
    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, which come first. Without any of them, nothing
    is done.

    Raises:
        ValueError: If the environment is incomplete, JAX was used before, or the coordinator does not answer.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    place = _place()
    if place is None:
        return
    address, count, index, local_devices = place
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            local_devices,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ValueError(f"Process {index} of {count} cannot join the others at {address}: {reason}.") from error
    # What else `keras.distribution.initialize` does, which takes no time limits: all processes draw the same weights.
    from keras.src.backend.jax.distribution_lib import initialize_rng

    initialize_rng()


def name_place(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Sets the variables that `join` reads, if options of the command line name this process's place.

    Raises ValueError if the backend has other ways.
    """
    given = {COORDINATOR: coordinator, PROCESSES: processes, PROCESS: process}
    named = {name: str(value) for name, value in given.items() if value is not None}
    if named and keras.backend.backend() != "jax":
        raise ValueError(
            "--coordinator, --processes and --process are for KERAS_BACKEND=jax. TensorFlow reads the cluster from the "
            "environment variable TF_CONFIG."
        )
    os.environ.update(named)


def _place() -> tuple[str, int, int, list[int] | None] | None:
    """Returns the coordinator's address, the number of processes, the index of this one and its devices.

    Returns None for a single process.
    """
    given = {name: os.environ[name] for name in (COORDINATOR, PROCESSES, PROCESS) if os.environ.get(name)}
    if PROCESSES in given or PROCESS in given:
        missing = [name for name in (COORDINATOR, PROCESSES, PROCESS) if name not in given]
        if missing:
            raise ValueError(
                f"{', '.join(given)} describe one process of several, but {', '.join(missing)} is missing: set all "
                f"three, or give --coordinator HOST:PORT, --processes and --process."
            )
        try:
            processes, process = int(given[PROCESSES]), int(given[PROCESS])
        except ValueError:
            processes, process = 0, 0
        host, _, port = given[COORDINATOR].rpartition(":")
        if not 0 <= process < processes or not host or not port.isdigit():
            raise ValueError(
                f"{COORDINATOR} must be HOST:PORT and {PROCESS} a number from 0 to {PROCESSES} - 1, but got "
                f"{', '.join(f'{name}={text}' for name, text in given.items())}."
            )
        return None if processes == 1 else (given[COORDINATOR], processes, process, None)
    # Private, because `jax.distributed.initialize` raises an error where nothing is detected, and must not be called
    # for a single process that has used JAX before.
    from jax._src.clusters import ClusterEnv

    found = ClusterEnv.auto_detect_unset_distributed_params(given.get(COORDINATOR), None, None, None, None, CONNECT)
    address, count, index, local_devices = found
    if given and count is None:
        raise ValueError(
            f"{COORDINATOR} is set, but nothing says how many processes there are and which one this is: set "
            f"{PROCESSES} and {PROCESS}, or give --processes and --process."
        )
    if address is None or count in (None, 1) or index is None:
        return None
    return address, int(count or 1), index, None if local_devices is None else list(local_devices)


def numbers_of_all(number: int) -> list[int]:
    """Returns the `number` of each process, in order. All processes must call this together."""
    import numpy as np
    from jax.experimental import multihost_utils

    return np.atleast_1d(multihost_utils.process_allgather(np.int32(number))).tolist()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Ends this process with one line if another one ends while the context is active. All processes must enter it.

    Without this, a process would wait for the results of another one that does not exist any more, until JAX aborts it
    with a stack trace. Each process keeps a connection to the first one. A process that leaves the context says whether
    by an error; the others then have `GRACE` seconds to report it themselves.
    """
    import jax

    count, index = jax.process_count(), jax.process_index()
    if count == 1:
        yield
        return
    watch = _Watch(index, count, _first(count) if index == 0 else _other(index))
    watch.start()
    try:
        yield
    except BaseException:
        atexit.register(_leave, watch)  # runs before what JAX has registered
        watch.leave(_FAILED)
        raise
    watch.leave(_DONE)


def _leave(watch: "_Watch") -> None:
    """Lets this process end with the status of its own error, after the others have ended or reported theirs.

    JAX's shutdown waits for all processes, and aborts this one if another has ended before.
    """
    from jax._src.distributed import global_state

    watch.reader.join(GRACE + 5)
    if not watch.all_reach_the_end:
        for part in (global_state.client, global_state.service):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))  # their destructors would shut JAX down
        global_state.client = global_state.service = None


def _first(count: int) -> dict[int, socket.socket]:
    """Returns the connections to all other processes."""
    with socket.create_server(("", 0), backlog=count) as server:
        server.settimeout(CONNECT)
        numbers_of_all(server.getsockname()[1])
        links: dict[int, socket.socket] = {}
        while len(links) < count - 1:
            link, _ = server.accept()
            _keep_alive(link)
            links[int.from_bytes(_received(link, 4), "big")] = link
    return links


def _other(index: int) -> dict[int, socket.socket]:
    """Returns the connection to the first process."""
    port = numbers_of_all(0)[0]
    link = socket.create_connection((_coordinator_host(), port), timeout=CONNECT)
    _keep_alive(link)
    link.sendall(index.to_bytes(4, "big"))
    return {0: link}


def _coordinator_host() -> str:
    from jax._src.distributed import global_state  # the only place that keeps the address that JAX has detected

    return str(global_state.coordinator_address).rpartition(":")[0].strip("[]")


def _keep_alive(link: socket.socket) -> None:
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@dataclasses.dataclass(eq=False)
class _Watch:
    """Reads what the other processes say. A connection that closes before a word means that the process is gone."""

    index: int  # of this process
    count: int
    links: dict[int, socket.socket]  # by index
    left: threading.Event = dataclasses.field(default_factory=threading.Event)  # whether this process is out of danger
    all_reach_the_end: bool = False  # whether all others, with an error or without one, go as far as JAX's shutdown

    def start(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True, name="watch")
        self.reader.start()

    def leave(self, word: bytes) -> None:
        self.left.set()
        self.say(word)

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for other, link in self.links.items():
                selector.register(link, selectors.EVENT_READ, other)
            words = []
            while selector.get_map():
                for key, _ in selector.select():
                    words.append(self._heard(key.data, self.links[key.data]))
                    selector.unregister(key.fileobj)
        self.all_reach_the_end = all(word in (_DONE, _FAILED) for word in words)

    def _heard(self, other: int, link: socket.socket) -> bytes:
        said = _received(link, 1)
        if said == _GONE:
            other = int.from_bytes(_received(link, 4), "big")
        if said != _DONE and not self.left.wait(GRACE if said == _FAILED else 0):
            self._end(other)
        return said

    def _end(self, other: int) -> None:
        line = (
            f"Process {other} of {self.count} has ended, so process {self.index} ends too. Run the same command again "
            f"on all hosts: it goes on from the last checkpoint."
        )
        with contextlib.suppress(OSError):  # the process may have no standard error
            os.write(2, f"\n{line}\n".encode())
        self.say(_GONE + other.to_bytes(4, "big"))
        os._exit(1)

    def say(self, word: bytes) -> None:
        for link in self.links.values():
            with contextlib.suppress(OSError):
                link.sendall(word)


def _received(link: socket.socket, count: int) -> bytes:
    try:
        return link.recv(count, socket.MSG_WAITALL)
    except OSError:
        return b""
