"""The JSON Schemas of what bnaudit writes, as they are packaged."""

from __future__ import annotations

from importlib.resources import files

DOCUMENTS = {
    "report": "report_v1.json",
    "inspect": "inspect_v1.json",
    "diff": "diff_v1.json",
    "init": "init_v1.json",
    "rules": "rules_v1.json",
}
"""Document -> file in this folder."""


def schema_text(document: str = "report") -> str:
    """The JSON Schema (draft 2020-12) of a document, `bnaudit.report/1` by default, as text.

    Args:
        document: a key of `DOCUMENTS`.
    """
    return files(__name__).joinpath(DOCUMENTS[document]).read_text(encoding="utf-8")
