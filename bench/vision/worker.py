"""All cells of one network, each in a process of its own.

    python -m bench.vision.worker NAME RESULTS

The network is built once; a forked child then writes, loads and measures one way, so that nothing
that one exporter leaves behind reaches the next. Ways whose result is there already are left out.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.vision.cells import WAYS, Cell, Original, Way, measure, original, write
from bench.vision.nets import network

SECONDS = 1200
_FORK = multiprocessing.get_context("fork")


def _child(results: Any, way: Way, net: Original) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # exporters print from C++ as well
        os.dup2(silence, descriptor)
    with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
        results.put(measure(way, net, Path(folder) / "model"))


def _isolated(way: Way, net: Original) -> Cell:
    results = _FORK.SimpleQueue()
    child = _FORK.Process(target=_child, args=(results, way, net))
    child.start()
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        return Cell(failed=f"no result after {SECONDS} s", executed=net.executed)
    if results.empty():
        return Cell(failed=f"the process ended with {child.exitcode}", executed=net.executed)
    cell: Cell = results.get()
    return cell


def _warm_up() -> None:
    """Imports what the dynamo exporter imports, once instead of in every child."""
    with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
        write(Way("dynamo", 20), nn.Linear(1, 1).eval(), torch.zeros(1, 1), Path(folder) / "model")


def run(name: str, folder: Path) -> None:
    """Writes `folder/way.json` for every way that has none."""
    missing = [way for way in WAYS if not (folder / f"{way}.json").exists()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    _warm_up()
    net = original(*network(name))
    for way in missing:
        cell = _isolated(way, net)
        (folder / f"{way}.json").write_text(json.dumps(asdict(cell)), encoding="utf-8")


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
