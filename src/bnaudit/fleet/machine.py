"""Facts about this machine: processors that may be used, memory that a process takes."""

from __future__ import annotations

import os
import resource
import socket
import sys
from pathlib import Path

from bnaudit.files import content

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def _told(path: Path) -> str:
    return content(path, renewable=True).decode("ascii", "replace")


def processors() -> int:
    """Those that this process may use: by its affinity, and by what its container is given."""
    known = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    try:
        quota, period = _told(_QUOTA).split()
        most = max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        most = len(known)
    return min(len(known), most)


def name_of(pid: int | None = None) -> str:
    """Machine and process, as rows tell where they come from."""
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}"


def resident(pid: int | str = "self") -> int | None:
    """Bytes of memory that a process takes now; None where the system does not say."""
    try:
        pages = int(_told(Path(f"/proc/{pid}/statm")).split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()


def forget_peak() -> None:
    """Has the system measure this process's peak from here on."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not this system: the peak is that of all before
        return


def peak() -> int:
    """Most bytes that this process took."""
    try:
        lines = _told(Path("/proc/self/status")).splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
