"""`bnaudit rules`: what is looked for."""

from __future__ import annotations

import click

from bnaudit.cli.streams import table_width, write_stdout


@click.command("rules", short_help="List the rules.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="markdown is what docs/rules.md holds.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(output_format: str, *, as_json: bool) -> None:
    """List all rules: id, name, severity, what they need, and what they look for.

    `bnaudit explain ID` has the rest.
    """
    from bnaudit.judge.catalogue import catalogue

    entries = catalogue()
    if as_json or output_format == "json":
        from bnaudit.render.rules_json import rules_to_json

        text = rules_to_json(entries)
    elif output_format == "markdown":
        from bnaudit.render.rules_markdown import rules_to_markdown

        text = rules_to_markdown(entries)
    else:
        from bnaudit.render.text.rules import rules_to_text

        text = rules_to_text(entries, table_width())
    write_stdout(text)
