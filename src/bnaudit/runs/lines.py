"""The lines that `bnaudit.watch` wrote, told from other files by their beginning and read one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.files import opened
from bnaudit.records.wire.read import MisfitError
from bnaudit.render.json_v1 import LINES, read_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnaudit.records.training import WatchRecord

_MARK = b'{"schema":"bnaudit.watch/'
_LONGEST = 1 << 26
"""Bytes of a line; one of a thousand layers has half a megabyte."""


def is_watched(path: Path) -> bool:
    """Whether a file begins as those of `watch`; what cannot be read is told where it is read."""
    try:
        with opened(path) as file:
            return file.read(len(_MARK)) == _MARK
    except OSError:
        return False


def read_lines(path: Path) -> Iterator[tuple[int, WatchRecord | str]]:
    """Number of each line, and its record or what is wrong with it.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with opened(path) as file:
            number = 0
            while line := file.readline(_LONGEST):
                number += 1
                yield number, _record(line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _record(line: bytes) -> WatchRecord | str:
    if not line.endswith(b"\n"):
        return "cut off in the middle of a line: the training was ended while it was written"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return "no JSON"
    if not isinstance(found, dict) or "schema" not in found:
        return f"no line of bnaudit.watch ({LINES['watch'].title})"
    try:
        return read_line(found)
    except MisfitError as wrong:
        return f"no whole line of bnaudit.watch: {wrong}"
