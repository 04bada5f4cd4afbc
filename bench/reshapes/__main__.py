"""Files of one batch size that reshape what they compute, audited at another: equal to the live module?

    python -m bench.reshapes                           # all of them: two minutes of one core
    python -m bench.reshapes --only 'LSTM*' windows    # by name
    python -m bench.reshapes --write                   # and puts the tables into docs/coverage.md

Each network is written by both exporters of torch.onnx for batches of 1 and of 4, and audited at 6, all
in float64. Exits with 1 where a number differs by more than 1e-9, or a file fails otherwise than by being
refused for its batch size.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from pathlib import Path

import torch

from bench.reshapes.compare import BATCHES, EXPORTERS, Cell, Outcome, outcome
from bench.reshapes.nets import NETWORKS
from bench.theory.text import order, table
from bench.theory_numbers import rewritten

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage.md"


def measured(cell: Cell) -> Outcome:
    """One cell, its file in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
        return outcome(cell, Path(folder))


def text(found: Outcome) -> str:
    """A cell of the table."""
    if found.unwritten:
        return "not written"
    if found.refused or found.failed:
        return f"refused: {found.refused.rpartition(': ')[2]}" if found.refused else found.failed
    return "equal" if found.equal else f"**{order(found.difference)}** {found.where}"


def total(outcomes: list[Outcome]) -> str:
    """What became of all of them, in a line."""
    equal = [o for o in outcomes if o.equal]
    refused = sum(bool(o.refused) for o in outcomes)
    unwritten = sum(bool(o.unwritten) for o in outcomes)
    worst = max((o.difference for o in equal), default=0.0)
    return (
        f"{len(outcomes)} files: {len(equal)} equal in {sum(o.numbers for o in equal):,} numbers (largest "
        f"difference {order(worst)}), {refused} refused, {unwritten} not written by the exporter, "
        f"{len(outcomes) - len(equal) - refused - unwritten} wrong."
    )


def main() -> int:
    """Measures and prints the table; 1 where something is neither equal nor refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=["*"], help="globs over the networks' names")
    parser.add_argument("--write", action="store_true", help="rewrite docs/coverage.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, outcomes = [], []
    for name in NETWORKS:
        if not any(fnmatch.fnmatch(name, glob) for glob in args.only):
            continue
        cells = [measured(Cell(name, exporter, b)) for exporter in EXPORTERS for b in BATCHES]
        rows.append([name, *map(text, cells)])
        outcomes += cells
        print(" | ".join(rows[-1]), flush=True)
    header = ["network", *(f"{exporter}, {b}" for exporter in EXPORTERS for b in BATCHES)]
    body = f"{total(outcomes)}\n\n{table(header, rows)}"
    print(f"\n{body}")
    if args.write:
        fresh = rewritten(DOCUMENT.read_text(encoding="utf-8"), {"reshapes": body})
        DOCUMENT.write_text(fresh, encoding="utf-8")
    return 0 if all(o.equal or o.refused or o.unwritten for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
