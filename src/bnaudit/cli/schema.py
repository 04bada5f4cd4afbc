"""`bnaudit schema`."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the report that `check --format json` writes."""
    from bnaudit.render.schema import schema_text

    click.echo(schema_text(), nl=False)
