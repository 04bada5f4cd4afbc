"""The driver's memory and the file's size by the number of models, with workers that audit nothing.

    python -m bench.fleet.driver [--models 100 1000 10000 100000] [--write]

Rows are those of a network with 54 BatchNorms. Each run is a process of its own: one over all models, one
that finds all done, one that writes the table of all layers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.document import DOCS, written
from bench.fleet.models import ROOT

_CODE = """
import sys, time
from bnaudit.cli import run
from bnaudit.fleet.engine import ENGINES
from bnaudit.fleet.machine import peak
ENGINES["simulated"] = "bench.fleet.simulated"
import bnaudit.cli.fleet as fleet
next(p for p in fleet.command.params if p.name == "engine").type.choices = list(ENGINES)
code = run(["fleet", "list.csv", "--engine", "simulated", "--no-config", "-q", *sys.argv[1:]])
assert code == 0, code
assert "torch" not in sys.modules and "numpy" not in sys.modules
print("peak", peak(), file=sys.stderr)
"""


def ran(folder: Path, *more: str) -> tuple[float, int]:
    """Seconds and bytes of a run."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *more],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start, int(done.stderr.split()[-1])


def rows(counts: list[int]) -> list[str]:
    """A line for each number of models."""
    lines = [
        "| models | driver | file of rows | a run over all | finds all done | driver with `--table` |",
        "|---|---|---|---|---|---|",
    ]
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            names = "".join(f"models/run/checkpoint_{n:07d}.onnx\n" for n in range(count))
            (folder / "models" / "run").mkdir(parents=True)
            for name in names.split():
                (folder / name).write_bytes(b"0")
            (folder / "list.csv").write_text("model\n" + names, encoding="utf-8")
            seconds, most = ran(folder)
            size = (folder / "fleet.jsonl").stat().st_size
            again, _ = ran(folder)
            if (folder / "fleet.jsonl").stat().st_size != size:
                raise SystemExit("what was done was done again")
            _, table = ran(folder, "--table", "t.csv")
        lines.append(
            f"| {count} | {most / 1e6:.0f} MB | {size / 1e6:.1f} MB | {seconds:.1f} s | {again:.1f} s "
            f"| {table / 1e6:.0f} MB |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines = rows(args.models)
    if args.write:
        written("fleet_driver", "\n".join(lines), DOCS / "fleet.md")


if __name__ == "__main__":
    main()
