"""The JSON Schema of the report, as it is packaged."""

from __future__ import annotations

from importlib.resources import files


def schema_text() -> str:
    """The JSON Schema (draft 2020-12) of `bnaudit.report/1`, as text."""
    return files(__name__).joinpath("report_v1.json").read_text(encoding="utf-8")
