"""What the workers of the tests run instead of audits, by the name of the task."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnaudit.fleet.engine import Job, Task

TARGET = f"{__name__}:act"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def act(job: Job, task: Task) -> Any:  # noqa: C901
    """Does what the task is called."""
    name, _, argument = task.model.partition(" ")
    if name == "exit":
        os._exit(int(argument))
    if name == "signal":
        sys.stderr.write("about to fail\n")
        os.kill(os.getpid(), getattr(signal, argument))
    if name == "once":  # ended from outside at the first time
        if task.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return ("tried again", task.attempt)
    if name == "actor":  # what this process was started for dies, as with its machine
        if argument == "always" or task.attempt == 1:
            os.kill(parent_of(os.getppid()), signal.SIGKILL)
            time.sleep(600)
        return ("tried again", task.attempt)
    if name == "hang":
        time.sleep(600)
    if name == "memory":
        held = bytearray(int(argument))
        time.sleep(600)
        return len(held)
    if name == "mark":
        Path(argument).write_text(str(os.getpid()))
        time.sleep(600)
    if name == "threads":
        import torch

        return torch.get_num_threads()
    return ("done", name, os.getpid(), os.getppid())
