"""Small models in files, and the commands that audit them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = (
    ROOT / "fixtures" / "tabular_mlp" / "model.onnx",
    ROOT / "fixtures" / "digits_resnet" / "model.onnx",
)
BNAUDIT = [sys.executable, "-m", "bnaudit"]
OPTIONS = ["--no-config", "--batch-size", "16", "-q"]


def made(folder: Path, count: int) -> list[str]:
    """Copies of two small networks by turns: an MLP of 3 BatchNorms, a ResNet of 10."""
    names = []
    for n in range(count):
        name = f"m{n:04d}.onnx"
        shutil.copy(SMALL[n % len(SMALL)], folder / name)
        names.append(name)
    return names


def timed(folder: Path, *args: str) -> tuple[float, float]:
    """Wall seconds of a command, and those of processors; workers of a fleet tell theirs in its rows."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [*BNAUDIT, *args], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    spent = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode not in (0, 1):
        raise SystemExit(f"{args[0]} exited with {done.returncode}: {done.stderr}")
    return spent, worked
