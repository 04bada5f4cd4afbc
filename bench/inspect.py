"""What `bnaudit inspect` costs on files of about 100 MB: fresh processes, Python's start-up included.

`python -m bench.inspect` prints a line a file: median and best seconds, peak resident memory, and the limits.
It exits with 1 where the best run exceeds a limit: the best of several is what the command costs, the rest
is what else the machine was doing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

RUNS = 7
LIMIT_SECONDS = 0.35
LIMIT_ABOVE_FILE = 150e6
"""Bytes of memory above the size of the file."""

_BLOCKS, _CHANNELS = 53, 390
"""As many layers as ResNet-50, one kernel in four 3x3: 165 * 390 * 390 floats are 100 MB."""


def convolutions() -> list[tuple[int, int]]:
    """(channels, kernel) of each layer; together about 100 MB of float32."""
    return [(_CHANNELS, 3 if block % 4 == 0 else 1) for block in range(_BLOCKS)]


def onnx_file(path: Path) -> None:
    """Conv and BatchNormalization in turn, random weights."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    nodes, tensors, value = [], [], "x"
    for block, (channels, kernel) in enumerate(convolutions()):
        name = f"block{block}"
        shape = (channels, channels, kernel, kernel)
        stored = {"conv.weight": draw.standard_normal(shape, dtype=np.float32)}
        stored |= {f"bn.{p}": draw.random(channels, dtype=np.float32) + 0.5 for p in _PARAMETERS}
        tensors += [numpy_helper.from_array(v, f"{name}.{k}") for k, v in stored.items()]
        pads = [kernel // 2] * 4
        nodes += [
            helper.make_node("Conv", [value, f"{name}.conv.weight"], [f"{name}/c"], pads=pads),
            helper.make_node(
                "BatchNormalization",
                [f"{name}/c", *(f"{name}.bn.{p}" for p in _PARAMETERS)],
                [f"{name}/y"],
            ),
        ]
        value = f"{name}/y"
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "bench",
        [declare("x", TensorProto.FLOAT, ["n", _CHANNELS, 8, 8])],
        [declare(value, TensorProto.FLOAT, None)],
        tensors,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


_PARAMETERS = ("weight", "bias", "running_mean", "running_var")


def checkpoint_file(path: Path) -> None:
    """A state_dict of the same layers."""
    import torch
    from torch import nn

    blocks = [
        nn.Sequential(nn.Conv2d(c, c, k, bias=False), nn.BatchNorm2d(c)) for c, k in convolutions()
    ]
    torch.save(nn.Sequential(*blocks).state_dict(), path)


FILES = {"big.onnx": onnx_file, "big.pt": checkpoint_file}


def write(name: str, path: Path) -> None:
    """In a process of its own: a child's peak memory begins with what its parent had."""
    code = f"import bench.inspect as b, pathlib; b.FILES[{name!r}](pathlib.Path({str(path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def cost(path: Path) -> tuple[float, float, int]:
    """Wall seconds, processor seconds and peak bytes of one cold command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bnaudit", "inspect", str(path)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall, busy = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    if status:
        raise SystemExit(
            f"{path.name} cannot be inspected: exit {os.waitstatus_to_exitcode(status)}"
        )
    return wall, busy, usage.ru_maxrss * 1024


def main() -> int:
    """Prints the table; 1 where a limit is exceeded."""
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            path = Path(folder) / name
            write(name, path)
            wall, busy, peaks = zip(*(cost(path) for _ in range(RUNS)), strict=True)
            size, memory = path.stat().st_size, max(peaks)
            bad |= min(wall) > LIMIT_SECONDS or memory > size + LIMIT_ABOVE_FILE
            print(
                f"{name:9} {size / 1e6:.0f} MB  median {median(wall):.2f} s  best {min(wall):.2f} s "
                f"(limit {LIMIT_SECONDS})  processor {median(busy):.2f} s  peak {memory / 1e6:.0f} MB "
                f"(limit {(size + LIMIT_ABOVE_FILE) / 1e6:.0f})"
            )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
