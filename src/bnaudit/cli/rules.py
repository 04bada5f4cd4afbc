"""`bnaudit rules`: what is looked for."""

from __future__ import annotations

from typing import Any

import click

from bnaudit.cli.options import Command, options_of
from bnaudit.cli.present import present, presentation_of

_TYPED = ("format", "output")
"""Options that say what becomes of an audit's report, where they are not typed."""


@click.command(
    "rules",
    cls=Command,
    short_help="List the rules.",
    params=[
        *options_of("rules", typed=_TYPED),
        click.Option(["--json", "as_json"], is_flag=True, help="The same as --format json."),
    ],
    examples=("bnaudit rules", "bnaudit rules -o docs/rules.md --format none"),
)
def command(*, as_json: bool, **given: Any) -> None:
    """List all rules: id, name, severity, what they need, and what they look for.

    `bnaudit explain ID` has the rest.
    """
    from bnaudit.judge.catalogue import catalogue

    wanted = "json" if as_json else given["stdout_format"]
    present(catalogue(), presentation_of("rules", {**given, "stdout_format": wanted}))
