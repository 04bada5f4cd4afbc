"""Options that several commands have, each defined once, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnaudit.cli.params import INPUT_SHAPE, OUTPUT, RULE_ENTRIES
from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_SEED = 2**32 - 1

input_shapes = click.option(
    "--input-shape",
    "input_shapes",
    type=INPUT_SHAPE,
    multiple=True,
    help="Shape of a synthetic input, batch first. Repeat for several inputs.",
)
device = click.option(
    "--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or mps."
)
seed = click.option(
    "--seed",
    type=click.IntRange(0, _LARGEST_SEED),
    default=0,
    show_default=True,
    help="Same seed, same report.",
)
outputs = click.option(
    "--output",
    "-o",
    "outputs",
    type=OUTPUT,
    multiple=True,
    help="Also write the report to a file, in the format that its suffix says (.txt, .json, .sarif, .xml "
    "for JUnit, .md), or FORMAT=FILE. Repeatable.",
)
baseline = click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="REPORT.json",
    help="An earlier report (-o report.json): only findings that it lacks, or that are worse, fail.",
)
select = click.option(
    "--select",
    type=RULE_ENTRIES,
    multiple=True,
    help="Run only these rules: ids, names or beginnings of ids (BN1), by commas. Repeatable.",
)
ignore = click.option(
    "--ignore",
    type=RULE_ENTRIES,
    multiple=True,
    help="Suppress the findings of these rules: they are counted and shown, but fail nothing.",
)
progress = click.option(
    "--progress/--no-progress", default=True, help="Show progress on stderr. [default: on]"
)
quiet = click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")


def joined(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What repeated options with lists say together."""
    return tuple(dict.fromkeys(entry for group in groups for entry in group))


def shapes_by_name(pairs: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """What the --input-shape options say together.

    Raises:
        UsageError: two of them are for the same input.
    """
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            of = f"the input {name!r}" if name else "the only input"
            raise UsageError(f"--input-shape is given twice for {of}")
    return dict(pairs)
