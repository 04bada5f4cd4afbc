"""The numbers of docs/theory.md, measured: on the shipped networks and on nets with fixed seeds.

    python -m bench.theory_numbers                  # rewrites the tables between the markers
    python -m bench.theory_numbers --check          # compares; exits with 1 where they differ
    python -m bench.theory_numbers --only twins     # one table

A table stands between `<!-- numbers:begin NAME -->` and `<!-- numbers:end -->`. Errors that are rounding
are given by their order of magnitude ("2e-16") and compared within two of those; all other numbers
within 3 % or one unit of the last digit.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bench.theory import effects, nets, samples, walks
from bench.theory.text import differences

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = Path(__file__).parents[1] / "docs" / "theory.md"

TABLES: dict[str, Callable[[], str]] = {
    "layers": nets.layers,
    "residuals": nets.residuals,
    "bound": nets.bound,
    "drift": nets.drift,
    "initialisation": nets.initialisation,
    "gauge": effects.gauge,
    "twins": effects.twins,
    "landscapes": walks.landscapes,
    "own-block": effects.own_block,
    "sampling": samples.sampling,
    "few": samples.few,
    "precision": samples.precision,
    "slips": samples.slip_table,
}

_BLOCK = re.compile(r"(<!-- numbers:begin ([\w-]+) -->\n)(.*?)(<!-- numbers:end -->)", re.DOTALL)


def blocks(text: str) -> dict[str, str]:
    """The tables of the document by name."""
    return {name: body for _, name, body, _ in _BLOCK.findall(text)}


def rewritten(text: str, tables: dict[str, str]) -> str:
    """The document with some tables replaced."""

    def replace(match: re.Match[str]) -> str:
        begin, name, body, end = match.groups()
        return begin + (tables[name] + "\n" if name in tables else body) + end

    return _BLOCK.sub(replace, text)


def main() -> int:
    """Rewrites the document, or compares; 1 where it differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--only", choices=list(TABLES), help="one table")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    text = DOCUMENT.read_text(encoding="utf-8")
    stored = blocks(text)
    names = [args.only] if args.only else list(stored)
    fresh = {name: TABLES[name]() for name in names}
    if not args.check:
        DOCUMENT.write_text(rewritten(text, fresh), encoding="utf-8")
        return 0
    found = {name: differences(stored[name], fresh[name]) for name in names}
    for name, lines in found.items():
        print(f"{name}: {'differs' if lines else 'as measured'}", *lines, sep="\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
