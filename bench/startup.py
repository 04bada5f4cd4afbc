"""How long the commands take that need no framework: the median of five fresh processes.

`python -m bench.startup` prints a line a command and exits with 1 where one exceeds its limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median

RUNS = 5
LIMIT = 0.15
"""Seconds: below it a command feels instant."""

COMMANDS = {
    "--version": ["--version"],
    "--help": ["--help"],
    "check --help": ["check", "--help"],
    "schema": ["schema"],
    "rules": ["rules"],
    "explain": ["explain", "BN009"],
    "a missing file": ["check", "nosuch.onnx"],
}


def seconds(args: list[str]) -> float:
    """The wall time of one process, from its start to its end."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "bnaudit", *args],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return time.perf_counter() - start


def processor_seconds(args: list[str]) -> float:
    """The processor time of one process: what other work on the machine does not change much."""
    before = os.times()
    seconds(args)
    after = os.times()
    spent = after.children_user - before.children_user
    return spent + after.children_system - before.children_system


def main() -> int:
    """Prints the table; 1 where a median is over the limit."""
    slow = False
    for name, args in COMMANDS.items():
        times = sorted(seconds(args) for _ in range(RUNS))
        middle = median(times)
        slow = slow or middle > LIMIT
        print(f"{name:15} median {middle:.3f} s  best {times[0]:.3f} s  limit {LIMIT} s")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
