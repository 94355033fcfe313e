"""Several processes of one picture, or of a pod whose processes JAX must start together."""

import contextlib
import re
import socket
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from nst_jax.errors import UserError

MAX_WAIT_SECONDS = 300  # for process 0, as long as JAX itself would wait


def start_together():
    """Starts JAX together with the other processes of a pod, and separates from them again.

    Each computes on its own devices and needs none of the others, so that one that is lost does not
    take others with it.

    Raises:
      UserError: the others cannot be found.
    """
    join("", 0, 0)
    jax.devices()
    jax.distributed.shutdown()


def join(coordinator: str, processes: int, process: int):
    """Finds the other processes. From here on JAX sees the devices of all of them.

    Args:
      coordinator: host:port of process 0; "" where Slurm, Open MPI or a TPU says it.
      processes, process: how many there are and which is this one, with a coordinator.

    Raises:
      UserError: the others cannot be found.
    """
    host, _, port = coordinator.rpartition(":")
    if coordinator and not (host and re.fullmatch(r"\d{1,5}", port)):
        raise UserError(f"--coordinator {coordinator!r}; write it as HOST:PORT")
    if coordinator and process >= processes:
        raise UserError(f"--process={process} of --processes={processes}; they count from 0")
    print("waiting for the other processes", file=sys.stderr, flush=True)
    if process:
        await_listener(host.strip("[]"), int(port))
    try:
        if coordinator:
            jax.distributed.initialize(coordinator, processes, process)
        else:
            jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes that share the work do not find each other ({error}); "
            "give --coordinator, --processes and --process"
        ) from error


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """Waits, after a process has prepared its work, until all processes have prepared theirs.

    If one of them fails, none begins.

    Raises:
      UserError: another process cannot begin.
    """
    try:
        yield
    except Exception:
        _all_are(False)
        raise
    if not _all_are(True):
        raise UserError("another process cannot begin; its own message says why")


def _all_are(ready: bool) -> bool:
    """Whether all processes are ready; every process must call it."""
    if jax.process_count() == 1:
        return ready
    return bool(np.all(multihost_utils.process_allgather(np.bool(ready))))


def await_listener(host: str, port: int):
    """Waits until somebody listens there; JAX would end the process without a word.

    Raises:
      UserError: nobody does, for `MAX_WAIT_SECONDS`.
    """
    until = time.monotonic() + MAX_WAIT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return
        except (OSError, OverflowError, UnicodeError) as error:
            if time.monotonic() > until:
                raise UserError(
                    f"process 0 does not listen on --coordinator {host}:{port} ({error}); "
                    "start it, or correct the address"
                ) from error
        time.sleep(0.5)
