"""`bnaudit schema`."""

from __future__ import annotations

import click

from bnaudit.cli.streams import Helpful, write_stdout
from bnaudit.render.json_v1 import DOCUMENTS, LINES


@click.command("schema", cls=Helpful)
@click.argument("document", type=click.Choice([*DOCUMENTS, *LINES, "config"]), default="report")
def command(document: str) -> None:
    """Print the JSON Schema of what `check` (report), `inspect`, `diff`, `init` or `rules` write as JSON.

    `watch` prints that of a line of `bnaudit.watch`, `config` that of bnaudit.yaml, for editors.
    """
    if document == "config":
        from bnaudit.config.schema import config_schema

        write_stdout(config_schema())
        return
    from bnaudit.render.json_v1 import schema_text

    write_stdout(schema_text(document))
