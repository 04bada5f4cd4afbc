"""What is normal: the range of each quantity over the layers of healthy networks.

    python -m bench.defects.train --sweep FOLDER 1 2 3
    python -m bench.defects.normal FOLDER [--write]

Writes the table of docs/defects.md; `summary/normal.py` has the same numbers (a test compares them). The
last column is about ranges that have not seen the network: those of seeds 1 and 2, on seed 3.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.defects.sweep import audit
from bench.document import DOCS, written
from bnaudit.summary.normal import ASSUMED_EPS, NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.layer import LayerReport

SETTINGS = ((32, 8), (8, 8), (64, 4))
ENDS = (0.1, 99.9)
TITLES = {
    "gain": "median \\|γ\\|/σ (gauge)",
    "reduction": "\\|g\\|/\\|G\\| (gauge)",
    "removed": "removed beyond 2/m, of 1 - 2/m",
    "leak": "median leak at eps 1e-5",
    "mean_drift": "mean drift, largest channel, near end",
    "variance_drift": "log2 variance drift, largest channel, near end",
}

Values = dict[str, dict[str, list[float]]]
"""Quantity -> network -> its layers' values on the scale of the range."""


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    values: Values = defaultdict(lambda: defaultdict(list))
    for path in sorted(options.folder.glob("*.pt")):
        for size, batches in SETTINGS:
            for layer in audit(path, size, batches, ("first_order", "statistics")).layers:
                for quantity in NORMAL:
                    value = scaled(layer, quantity)
                    if value is not None:
                        values[quantity][path.stem].append(value)
    table = "\n".join(rows(values))
    print(table)
    if options.write:
        written("normal", table, DOCS / "defects.md")


def scaled(layer: LayerReport, quantity: str) -> float | None:
    """A layer's value as the range has it: free of what m and eps alone make of it."""
    value = NORMAL[quantity].measured(layer)
    if value is None or layer.m <= 2:
        return None
    if quantity == "removed":
        return max(value - 2 / layer.m, 0.0) / (1 - 2 / layer.m)
    return value * ASSUMED_EPS / layer.eps if quantity == "leak" else value


def rows(values: Values) -> Iterator[str]:
    """One line a quantity."""
    yield "| quantity | median | normal | outside | outside, ranges of other seeds |"
    yield "|---|---|---|---|---|"
    for quantity, by_network in values.items():
        everything = [v for found in by_network.values() for v in found]
        low, high = range_of(quantity, everything)
        seen = [v for name, found in by_network.items() if not name.endswith(".3") for v in found]
        new = [v for name, found in by_network.items() if name.endswith(".3") for v in found]
        yield (
            f"| {TITLES[quantity]} | {np.median(everything):.3g} | {low:.3g} to {high:.3g} "
            f"| {_share(everything, low, high):.2%} | {_share(new, *range_of(quantity, seen)):.2%} |"
        )


def range_of(quantity: str, values: Sequence[float]) -> tuple[float, float]:
    """The percentiles to three digits, rounded outwards; from 0 where small values are healthy."""
    low, high = (float(end) for end in np.percentile(values, ENDS))
    return (_rounded(low, -1) if NORMAL[quantity].low else 0.0), _rounded(high, 1)


def _rounded(value: float, way: int) -> float:
    step = 10.0 ** (np.floor(np.log10(value)) - 2)
    return float(f"{(np.ceil if way > 0 else np.floor)(value / step) * step:.3g}")


def _share(values: Sequence[float], low: float, high: float) -> float:
    found = np.array(values)
    return float(((found < low) | (found > high)).mean())


if __name__ == "__main__":
    main()
