"""Options that several commands have, each defined once, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnaudit.cli.params import INPUT_SHAPE, OUTPUT, RULE_ENTRIES
from bnaudit.errors import UsageError
from bnaudit.records.finding import Severity
from bnaudit.render.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_SEED = 2**32 - 1
FAIL_ON = {"error": Severity.ERROR, "warning": Severity.WARNING, "info": Severity.INFO}

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
stdout_format = click.option(
    "--format",
    "stdout_format",
    type=click.Choice([*FORMATS, "none"]),
    default="table",
    show_default=True,
    help="What goes to stdout.",
)
channels = click.option("--channels", is_flag=True, help="Add per-channel arrays to the JSON.")
fail_on = click.option(
    "--fail-on",
    type=click.Choice([*FAIL_ON, "never"]),
    default="error",
    show_default=True,
    help="Exit with 1 for findings of this severity or worse.",
)
allow_no_bn = click.option(
    "--allow-no-bn", is_flag=True, help="Exit with 0, not 3, for a model without BatchNorm."
)
color = click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True
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
