"""What loading an ONNX file takes beside its weights: at the peak they are there twice, afterwards once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

MEGABYTES = 64
PEAK = """
import sys
from pathlib import Path
from bnaudit.load import load

def kilobytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))

small, large = map(Path, sys.argv[1:])
load(small)
base = kilobytes("VmRSS")
loaded = load(large)
print(kilobytes("VmHWM") - base, kilobytes("VmRSS") - base)
"""


def written(path: Path, side: int) -> Path:
    """One linear layer of side x side float32, and a BatchNorm."""
    shapes = {"w": (side, side), **dict.fromkeys(("gamma", "beta", "mean", "var"), (side,))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "gamma", "beta", "mean", "var"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, 1, ["N", side]) for n in ("x", "y"))
    stored = [numpy_helper.from_array(np.ones(s, np.float32), name) for name, s in shapes.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_weights_are_twice_in_memory_at_most(tmp_path: Path) -> None:
    small = written(tmp_path / "small.onnx", 8)
    large = written(tmp_path / "large.onnx", int((MEGABYTES * 2**18) ** 0.5))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, small, large], check=True, capture_output=True, text=True
    )
    peak, after = (int(n) / (MEGABYTES * 1024) for n in done.stdout.split())
    assert peak < 2.3  # three times before, with the parsed file kept
    assert after < 1.3
