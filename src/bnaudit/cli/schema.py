"""`bnaudit schema`."""

from __future__ import annotations

import click

from bnaudit.cli.streams import write_stdout
from bnaudit.render.schema import DOCUMENTS


@click.command("schema")
@click.argument("document", type=click.Choice(list(DOCUMENTS)), default="report")
def command(document: str) -> None:
    """Print the JSON Schema of what --format json writes: of check (report), inspect or init."""
    from bnaudit.render.schema import schema_text

    write_stdout(schema_text(document))
