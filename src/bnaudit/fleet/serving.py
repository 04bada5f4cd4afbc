"""The side of a worker process: tasks in from a pipe, payloads out, until the pipe closes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnaudit.fleet.machine import resident

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bnaudit.fleet.engine import Job

_LOOK = 0.5
"""Seconds between two looks whether the parent lives."""
_LEFT = 1.5
"""A process that is this much larger than before its first model is not used again."""


def serve(job: Job, threads: int, tasks: Connection, tail: Connection) -> None:
    """Runs tasks one after the other.

    Args:
        job: what they have in common.
        threads: of PyTorch.
        tasks: the pipe to the driver; b"" on it says that a task begins.
        tail: takes what the model's libraries print.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver says when to end
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    for stream in (1, 2):
        os.dup2(tail.fileno(), stream)
    tail.close()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # The server that this process was forked from may have had these closed.
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    module, name = job.target.split(":")
    target = getattr(import_module(module), name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    before = resident() or 0
    while True:
        try:
            task = tasks.recv()
        except (EOFError, OSError):
            os._exit(0)
        tasks.send_bytes(b"")
        payload: Any = target(job, task)
        _clean()
        larger = (resident() or 0) > max(_LEFT * before, before + 2**28)
        tasks.send_bytes(pickle.dumps((payload, task.runs_code or larger)))


def _clean() -> None:
    """What a model left in a cycle is not counted as the next one's."""
    import gc

    gc.collect(1)


def _watch(parent: int) -> None:
    """Ends the process once its parent is gone: nobody would take what it finds."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)
