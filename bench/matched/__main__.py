"""python -m bench.matched [--write] [--folder FOLDER]: prints the tables or writes docs/matched.md.

The two networks of ImageNet's shape are trained once (five minutes each on a core) and kept in the folder.
"""

from __future__ import annotations

import argparse
import tempfile
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.document import DOCS, written
from bench.matched.changed import CHANGES, Case, cases
from bench.matched.compare import Numbers, Row, compared
from bench.matched.subjects import subjects

if TYPE_CHECKING:
    from collections.abc import Sequence

WITHIN, FACTOR = 0.1, 2.0


def errors(found: Numbers, real: Numbers) -> list[float]:
    """Of |g|/|G|, relative, a layer each."""
    return [abs(found[name][0] / real[name][0] - 1) for name in real]


def factors(found: Numbers, real: Numbers) -> list[float]:
    """Of the curvature, a layer each; infinite where the sign is another."""
    ratios = [found[name][1] / real[name][1] for name in real if isfinite(real[name][1])]
    return [max(r, 1 / r) if r > 0 else float("inf") for r in ratios]


def _figures(found: Numbers, real: Numbers) -> str:
    off, curved = errors(found, real), factors(found, real)
    close = sum(e <= WITHIN for e in off)
    good = sum(f <= FACTOR for f in curved)
    return f"{max(off):.1%} ({close}/{len(off)}) | {good}/{len(curved)}"


def compared_table(rows: Sequence[Row]) -> str:
    """One line a network, and the totals."""
    lines = [
        "| network | rows | noise: worst of \\|g\\|/\\|G\\| (within 10 %) | curvature within 2 "
        "| real rows, drawn labels | curvature | matched | curvature | less drift | steps "
        "| time, in training steps | of which for 90 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.subject.name} | {row.rows} | {_figures(row.noise, row.real)} | "
        f"{_figures(row.drawn, row.real)} | {_figures(row.matched, row.real)} | {row.less_drift:.0f} x | "
        f"{max(row.matching.steps)} | {row.train_steps:.0f} | {row.most_of_it:.1f} |"
        for row in rows
    ]
    for name in ("noise", "drawn", "matched"):
        off = [e for row in rows for e in errors(getattr(row, name), row.real)]
        curved = [f for row in rows for f in factors(getattr(row, name), row.real)]
        share = sum(e <= WITHIN for e in off) / len(off)
        good = sum(f <= FACTOR for f in curved) / len(curved)
        lines.append(
            f"\n{name.capitalize()}: {share:.1%} of {len(off)} layers within 10 % in |g|/|G|, "
            f"{good:.1%} within a factor of 2 in curvature."
        )
    return "\n".join(lines)


def changed_table(found: Sequence[Case]) -> str:
    """What is left of healthy networks, and how many of the changed ones are told of."""
    healthy = [case for case in found if not case.change]
    lines = [
        f"Unchanged: {sum(c.found for c in healthy)} of {len(healthy)} networks have a finding, the largest "
        f"distance that is left in a channel is {max(c.largest for c in healthy):.2g}.\n",
        "| changed | first layer: told of | no other layer told of | behind: told of | no other "
        "| least distance |",
        "|---|---|---|---|---|---|",
    ]
    for change in CHANGES:
        own = [case for case in found if case.change == change]
        cells = []
        for first in (True, False):
            part = [case for case in own if case.first == first]
            cells.append(f"{sum(c.found for c in part)}/{len(part)}")
            cells.append(f"{sum(c.alone for c in part)}/{len(part)}")
        lines.append(f"| {change} | {' | '.join(cells)} | {min(c.largest for c in own):.2g} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Matched batches beside real ones.")
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bnaudit-matched"
    )
    parser.add_argument("--only", choices=("compared", "changed"))
    parser.add_argument(
        "--networks", help="names by commas; default all", type=lambda t: t.split(",")
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {}
    if options.only != "changed":
        rows = []
        for subject in subjects(options.folder, options.networks):
            rows.append(compared(subject))
            print(compared_table(rows[-1:]), flush=True)
        tables["compared"] = compared_table(rows)
    if options.only != "compared":
        tables["changed"] = changed_table(list(cases()))
    for name, table in tables.items():
        print(table)
        if options.write:
            written(name, table, DOCS / "matched.md")


if __name__ == "__main__":
    main()
