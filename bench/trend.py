"""What `bnaudit trend` takes for a run of large checkpoints, and how often its test sees what is not there.

    python -m bench.trend [--write] [--files 200] [--errors]

The files are 100 MB each: the 53 BatchNorm layers of a ResNet-50 and weights of
zeros, of which the copies keep holes. Time and memory are those of a process of its own. With --errors
the second table: made-up courses, 300 of a kind, and the share that is told as a trend.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from math import exp
from pathlib import Path

import torch

from bench.document import DOCS, written
from bench.nets import resnet50
from bnaudit.records.training import Course
from bnaudit.summary.course import course

KINDS = {
    "independent": "independent noise",
    "0.5": "AR(1), 0.5",
    "0.8": "AR(1), 0.8",
    "walk": "random walk",
    "levels off": "falls, levels off",
    "falls": "falls evenly",
}


_KEEPS = {"independent": 0.0, "0.5": 0.5, "0.8": 0.8, "walk": 1.0}
"""How much of the last value is in the next."""


def errors(repeats: int = 300) -> list[str]:
    """The share of courses with a direction, by kind and length."""
    lines = [
        "| checkpoints | " + " | ".join(KINDS.values()) + " |",
        "|---" * (len(KINDS) + 1) + "|",
    ]
    for n in (10, 20, 60):
        shares = []
        for kind in KINDS:
            rng = random.Random(1)  # noqa: S311  # no secret
            told = [course(list(map(float, range(n))), made(kind, n, rng)) for _ in range(repeats)]
            told = [c for c in told if isinstance(c, Course) and c.direction != "none"]
            shares.append(f"{100 * len(told) / repeats:.0f} %")
        lines.append(f"| {n} | {' | '.join(shares)} |")
        print(lines[-1], flush=True)
    return lines


def made(kind: str, n: int, rng: random.Random) -> list[float]:
    """One course."""
    values, last = [], 0.0
    for i in range(n):
        noise = rng.gauss(0, 0.3)
        if kind == "levels off":
            last = -2 * (1 - exp(-6 * i / n)) + noise
        elif kind == "falls":
            last = -1.5 * i / n + noise
        else:
            last = _KEEPS[kind] * last + noise
        values.append(exp(last))
    return values


def cost(files: int) -> list[str]:
    """Seconds a file and the memory that it takes, for some and for all of the files."""
    lines = ["| files of 100 MB | processor seconds a file | peak memory |", "|---|---|---|"]
    folder = Path(tempfile.mkdtemp(prefix="trend"))
    try:
        state = resnet50().state_dict()
        state = {name: t for name, t in state.items() if t.dim() < 2}
        state["weights"] = torch.zeros(5000, 5000)
        torch.save({"state_dict": state, "global_step": 0}, folder / "step_0.pt")
        for i in range(1, files):
            copy = ["cp", "--sparse=always", f"{folder}/step_0.pt", f"{folder}/run_{i}.pt"]
            subprocess.run(copy, check=True)
        for count in (files // 10, files):
            names = [str(folder / f"run_{i}.pt") for i in range(1, count)]
            code = (
                "import sys, time\nfrom pathlib import Path\nfrom bnaudit.cli import run\n"
                "run(['trend', '--as-given', '--format', 'none', '-q', *sys.argv[1:]])\n"
                "status = Path('/proc/self/status').read_text()\n"  # getrusage has the parent's peak in it
                "print(time.process_time(), status.split('VmHWM:')[1].split()[0])"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, *names], check=True, capture_output=True, text=True
            )
            seconds, peak = done.stdout.split()
            lines.append(f"| {count} | {float(seconds) / count:.3f} | {int(peak) / 1000:.0f} MB |")
            print(lines[-1], flush=True)
    finally:
        shutil.rmtree(folder)
    return lines


def main() -> None:
    """Prints the tables; writes them where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    tables = {"trend_errors": errors()} if args.errors else {}
    if not args.errors:
        tables["trend_cost"] = cost(args.files)
    for name, lines in tables.items():
        if args.write:
            written(name, "\n".join(lines), DOCS / "trend.md")


if __name__ == "__main__":
    main()
