"""`bnaudit schema`."""

from __future__ import annotations

import click

from bnaudit.cli.streams import write_stdout
from bnaudit.render.schema import DOCUMENTS


@click.command("schema")
@click.argument("document", type=click.Choice(list(DOCUMENTS)), default="report")
def command(document: str) -> None:
    """Print the JSON Schema of what `check` (report), `init` or `rules` write as JSON."""
    from bnaudit.render.schema import schema_text

    write_stdout(schema_text(document))
