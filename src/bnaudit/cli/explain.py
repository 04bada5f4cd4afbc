"""`bnaudit explain`: one rule in full."""

from __future__ import annotations

import click

from bnaudit.cli.streams import table_width, write_stdout


@click.command("explain", short_help="Explain rules.")
@click.argument("rules", nargs=-1, required=True, metavar="RULE...")
@click.option(
    "--json", "as_json", is_flag=True, help="As `bnaudit rules --json`, these rules only."
)
def command(rules: tuple[str, ...], *, as_json: bool) -> None:
    """Explain RULE: what it looks for, why that is bad, how to fix it, where its thresholds come from.

    RULE is an id, a name, or the beginning of an id; several are explained in turn.

    \b
      bnaudit explain BN009
      bnaudit explain dead-gamma unusual-eps
      bnaudit explain BN00 | less
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    from bnaudit.judge.catalogue import named

    entries = list({entry.rule.id: entry for query in rules for entry in named(query)}.values())
    if as_json:
        from bnaudit.render.rules_json import rules_to_json

        write_stdout(rules_to_json(entries))
        return
    from bnaudit.render.text.rules import explanation

    write_stdout("\n\n".join(explanation(entry, table_width()) for entry in entries))
