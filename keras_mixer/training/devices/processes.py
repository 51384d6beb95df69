"""Several processes of the JAX backend: how one joins the others, and how it learns that another has ended."""

import atexit
import contextlib
import ctypes
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator

import keras

COORDINATOR, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# Seconds. The others notice a killed process at once, because its connections close. Keepalive reports a host that
# disappears. JAX's heartbeat keeps its default of 100 seconds: a shorter one takes a slow process on a busy machine for
# a dead one, and JAX then aborts the others.
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
SHUTDOWN = 24 * 3600  # a process that has nothing left to do waits for one that still exports or evaluates
CONNECT = 30
NOTICE = 2  # after an error in this process, time to hear that another one is gone
GRACE = 10  # after an error in another process, time for this one to report the same error itself
# What a process says when it leaves, and what the first process says of another one that has ended or failed.
_DONE, _FAILED, _GONE, _AT_FAULT = b".", b"!", b"#", b"?"


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
    # `keras.distribution.initialize` takes no time limits. It would also agree on a seed, which a recipe sets anyway.
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            local_devices,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ValueError(f"Process {index} of {count} cannot join the others at {address}: {reason}.") from error


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

    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(given.get(COORDINATOR), None, None, None, None, CONNECT)
    except Exception as error:  # each kind of cluster raises its own
        raise ValueError(
            f"JAX cannot find the processes of this cluster: {error} For a single process, use `--strategy default`; "
            f"for several, set {COORDINATOR}, {PROCESSES} and {PROCESS}."
        ) from error
    address, count, index, local_devices = found
    if given and count is None:
        raise ValueError(
            f"{COORDINATOR} is set, but nothing says how many processes there are and which one this is: set "
            f"{PROCESSES} and {PROCESS}, or give --processes and --process."
        )
    if address is None or count in (None, 1) or index is None:
        return None
    own = None if os.environ.get("JAX_LOCAL_DEVICE_IDS") else local_devices  # JAX reads the variable itself
    return address, count, index, None if own is None else list(own)


def numbers_of_all(number: int) -> list[int]:
    """Returns the `number` of each process, in order. All processes must call this together."""
    import numpy as np
    from jax.experimental import multihost_utils

    return np.atleast_1d(multihost_utils.process_allgather(np.int32(number))).tolist()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Ends this process with one line if another one ends while the context is active. All processes must enter it.

    Without this, a process would wait for the results of another one that does not exist any more, until JAX aborts it
    with a stack trace. Each process keeps a connection to the first one. A process that leaves the context tells the
    others whether it failed. They then have `GRACE` seconds to report the same error.
    """
    import jax

    count, index = jax.process_count(), jax.process_index()
    if count == 1:
        yield
        return
    watch = _Watch(index, count)
    atexit.register(watch.end)  # runs before what JAX has registered
    watch.connect()
    try:
        yield
    except BaseException:
        watch.leave(_FAILED)
        raise
    watch.leave(_DONE)


def _accepted(count: int) -> dict[int, socket.socket]:
    """Returns the connections to all other processes."""
    six = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if six else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=six, backlog=count) as server:
        port = server.getsockname()[1]
        numbers_of_all(port)
        links: dict[int, socket.socket] = {}
        deadline = time.monotonic() + CONNECT
        while len(links) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                link, _ = server.accept()
            except TimeoutError as error:
                raise ValueError(
                    f"{len(links) + 1} of {count} processes connected within {CONNECT} seconds: let the other hosts "
                    f"reach port {port} of this one."
                ) from error
            link.settimeout(1)
            said = _received(link, 4)
            other = int.from_bytes(said, "big")
            if len(said) < 4 or other in links or not 0 < other < count:
                link.close()  # not one of the processes
                continue
            _keep_alive(link)
            links[other] = link
    return links


def _connected(index: int) -> dict[int, socket.socket]:
    """Returns the connection to the first process."""
    from jax._src.distributed import global_state  # the only place that keeps the address that JAX has detected

    host, port = str(global_state.coordinator_address).rpartition(":")[0].strip("[]"), numbers_of_all(0)[0]
    try:
        link = socket.create_connection((host, port), timeout=CONNECT)
    except OSError as error:
        raise ValueError(
            f"Process {index} cannot connect to process 0 at {host}:{port} ({error}): let the hosts reach each other "
            f"on all ports."
        ) from error
    _keep_alive(link)
    link.sendall(index.to_bytes(4, "big"))
    return {0: link}


def _leave_jax() -> None:
    """Keeps JAX from waiting for the other processes when this one ends, by what it does at exit or by its destructors.

    JAX has no public way to end one process of several.
    """
    from jax._src import api, dispatch, xla_bridge
    from jax._src.distributed import global_state

    for part in (global_state.client, global_state.service, *xla_bridge._backends.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
    global_state.client = global_state.service = None
    for function in (api.clean_up, dispatch.wait_for_tokens):
        atexit.unregister(function)


def _keep_alive(link: socket.socket) -> None:
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class _Watch:
    """Reads what the other processes say. A connection that closes before a word means that the process is gone.

    Args:
        index: Index of this process.
        count: Number of processes.
    """

    def __init__(self, index: int, count: int):
        self._index, self._count = index, count
        self._links: dict[int, socket.socket] = {}
        self._left = threading.Event()  # set when this process no longer needs the others
        self._failed = True
        self._all_arrive = False  # whether all others, with an error or without one, go as far as JAX's shutdown
        self._reader = threading.Thread(target=self._read, daemon=True, name="watch")
        # JAX and Gloo abort this process when another one is gone. A handler written in C runs in the thread that
        # aborts, and the process is aborted when it returns, unless the reader ends the process before.
        self._on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: self._reader.join(GRACE))

    def connect(self) -> None:
        self.read(_accepted(self._count) if self._index == 0 else _connected(self._index))

    def read(self, links: dict[int, socket.socket]) -> None:
        """Starts to read from connections by index."""
        self._links = links
        self._reader.start()
        if os.name == "posix":
            ctypes.CDLL(None).signal(signal.SIGABRT, self._on_abort)

    def leave(self, word: bytes) -> None:
        """Tells the others whether this process is done or has failed.

        A process fails too when another one is gone. JAX may notice that before the reader, so the reader gets `NOTICE`
        seconds to end this process with the right line.
        """
        self._failed = word == _FAILED
        try:
            if self._failed:
                self._reader.join(NOTICE)
        finally:
            self._left.set()
            self._say(word)

    def end(self) -> None:
        """Lets a process that failed end with the status of its own error, after the others have ended or failed too.

        JAX's shutdown waits for all processes, and aborts this one if another has ended before.
        """
        if not self._failed:
            return
        with contextlib.suppress(KeyboardInterrupt, RuntimeError):  # RuntimeError: the connection was never made
            self._reader.join(GRACE + 5)
        if self._all_arrive:
            return
        _leave_jax()
        self._await_ends()
        for link in self._links.values():
            link.detach()  # closed with the process, and not before

    def _read(self) -> None:
        words = []
        with selectors.DefaultSelector() as selector:
            for other, link in self._links.items():
                selector.register(link, selectors.EVENT_READ, other)
            while selector.get_map():
                for key, _ in selector.select():
                    words.append(self._heard(key.data, self._links[key.data]))
                    selector.unregister(key.fileobj)
        arrive = all(word in (_DONE, _FAILED) for word in words)
        if self._index == 0:  # only the first process hears all others
            self._say(_DONE if arrive else _FAILED)
        else:
            arrive = arrive and _received(self._links[0], 1) == _DONE
        self._all_arrive = arrive

    def _heard(self, other: int, link: socket.socket) -> bytes:
        said = word = _received(link, 1) or _GONE
        if self._index and word in (_GONE, _AT_FAULT):
            other = int.from_bytes(_received(link, 4), "big")
        if said == _FAILED:
            word = _AT_FAULT
        if said != _DONE and not self._left.wait(GRACE if said == _FAILED else 0):
            self._end(other, word)
        return said

    def _end(self, other: int, word: bytes) -> None:
        if word == _GONE:
            what, advice = "ended", "Run the same command again on all hosts: it goes on from the last checkpoint."
        else:
            what, advice = "failed", f"The output of process {other} says why."
        line = f"Process {other} of {self._count} has {what}, so process {self._index} ends too. {advice}"
        with contextlib.suppress(OSError):  # the process may have no standard error
            os.write(2, f"\n{line}\n".encode())
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # JAX may notice too, and would print a stack trace
        self._say(word + other.to_bytes(4, "big"))
        self._await_ends()
        os._exit(1)

    def _say(self, word: bytes) -> None:
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.sendall(word)

    def _await_ends(self) -> None:
        """Lets the first process end last, because JAX aborts the others when the first is gone."""
        if self._index == 0:
            for link in self._links.values():
                with contextlib.suppress(OSError):
                    link.settimeout(GRACE)
                    while link.recv(64):
                        pass


def _received(link: socket.socket, count: int) -> bytes:
    try:
        return link.recv(count, socket.MSG_WAITALL)
    except OSError:
        return b""
