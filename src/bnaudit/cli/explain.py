"""`bnaudit explain`: one rule in full."""

from __future__ import annotations

import click

from bnaudit.cli.options import Command
from bnaudit.cli.streams import table_width, write_stdout
from bnaudit.config.rule_kinds import Rules


def _known(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in Rules().known if name.startswith(incomplete)]


@click.command(
    "explain",
    cls=Command,
    short_help="Explain rules.",
    examples=(
        "bnaudit explain BN009",
        "bnaudit explain dead-gamma unusual-eps",
        "bnaudit explain BN00 | less",
    ),
)
@click.argument("rules", nargs=-1, required=True, metavar="RULE...", shell_complete=_known)
@click.option(
    "--json", "as_json", is_flag=True, help="As `bnaudit rules --json`, these rules only."
)
def command(rules: tuple[str, ...], *, as_json: bool) -> None:
    """Explain RULE: what it looks for, why that is bad, how to fix it, where its thresholds come from.

    RULE is an id, a name, or the beginning of an id; several are explained in turn.
    """
    from bnaudit.judge.catalogue import named

    entries = list({entry.rule.id: entry for query in rules for entry in named(query)}.values())
    if as_json:
        from bnaudit.judge.rule import RuleList
        from bnaudit.render.json_v1 import document_text

        write_stdout(document_text(RuleList(tuple(entries))))
        return
    from bnaudit.render.text.rules import explanation

    write_stdout("\n\n".join(explanation(entry, table_width()) for entry in entries))
