"""Option values that click has no type for."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from bnaudit.metrics import METRICS
from bnaudit.render.formats import FORMATS, format_of


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write a report to, and the format it is written in."""

    path: Path
    format: str


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()


class _OutputType(click.ParamType[Output]):
    name = "FILE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Output:
        """`report.json` or `junit=report.log`; the folder is checked now, not after minutes of measuring."""
        named, separator, rest = str(value).partition("=")
        if separator and named in FORMATS:
            path, format_name = Path(rest), named
        else:
            path, format_name = Path(value), format_of(str(value)) or ""
        if not format_name:
            known = ", ".join(f.suffix for f in FORMATS.values() if f.suffix)
            self.fail(
                f"{value}: the suffix says no format (known: {known}; or FORMAT=FILE)", param, ctx
            )
        if not path.parent.is_dir() or path.is_dir():
            self.fail(f"{value}: cannot be written: no such folder, or a folder itself", param, ctx)
        return Output(path, format_name)


class _InputShapeType(click.ParamType[tuple[str, tuple[int, ...]]]):
    name = "[NAME:]NxCx..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """`x:8x3x224x224` -> ("x", (8, 3, 224, 224)); no name is the empty name."""
        name, _, text = str(value).rpartition(":")
        parts = text.lower().replace(",", "x").split("x")
        if not all(_is_count(p) and int(p) > 0 for p in parts):
            self.fail(f"{value!r} is no shape; write it like x:8x3x224x224", param, ctx)
        return name, tuple(int(p) for p in parts)


class _LayerCountType(click.ParamType[int]):
    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A number of layers; "all" is -1."""
        if value == "all":
            return -1
        if not _is_count(str(value)):
            self.fail(f"{value!r} is neither a number of layers nor 'all'", param, ctx)
        return int(value)


class _MetricsType(click.ParamType[tuple[str, ...]]):
    name = "LIST"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """`second_order,twins` -> names; "all" is every metric."""
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        if names == ("all",):
            return tuple(METRICS)
        for name in names:
            if name not in METRICS:
                close = get_close_matches(name, METRICS, 1)
                hint = f", did you mean {close[0]}?" if close else ""
                self.fail(f"no metric {name!r}{hint} (there are: {', '.join(METRICS)})", param, ctx)
        return names


class _RulesType(click.ParamType[tuple[str, ...]]):
    name = "RULES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """`BN101,few-values` -> entries, each of which names a rule there is."""
        from bnaudit.config.rule_kinds import names_rule, nearest_rule
        from bnaudit.judge.rules import RULES

        entries = tuple(part.strip() for part in str(value).split(",") if part.strip())
        for entry in entries:
            if not names_rule(entry, RULES):
                self.fail(f"no rule {entry!r}{nearest_rule(entry, RULES)}", param, ctx)
        return entries


OUTPUT = _OutputType()
RULE_ENTRIES = _RulesType()
METRIC_NAMES = _MetricsType()
INPUT_SHAPE = _InputShapeType()
LAYER_COUNT = _LayerCountType()
