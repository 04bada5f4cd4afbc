"""The file of a fleet: a line a row, added when its model is done, on the disk before the next is asked for.

A kill at any moment leaves whole lines and at most one that has no end, which the next run removes: its row
was in flight. The last row of an entry counts.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError, RunError, UsageError
from bnaudit.files import NO_FILE, exists, is_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = "bnaudit.fleet-row/1"
_HINT = "name another file (--results), or move this one away"
_BLOCK = 1 << 20
_ROW = 1 << 16
_HEAD = re.compile(
    rb'\{"schema": ?"bnaudit\.fleet-row/1", ?(?:"tool": ?\{[^{}]*\}, ?)?"entry": ?"([\w-]+)"'
)


class Results:
    """The rows of a fleet, by entry; of each the file has the place alone in memory.

    Attributes:
        path: of the file.
        places: entry -> where its last line begins.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        """Opens the file, and makes it where it is to be written.

        Raises:
            UsageError: it cannot be opened, is no such file, or another run writes it.
        """
        self.path = path
        self.places: dict[str, int] = {}
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        if exists(path) and not is_file(path):
            raise UsageError(f"{path}: {NO_FILE}", hint=_HINT)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise UsageError(f"{path}: cannot be opened ({error.strerror})", hint=_HINT) from error
        if write:
            self._lock()
        self._end = self._read_places()
        if write and self._end < os.fstat(self._file).st_size:
            os.ftruncate(self._file, self._end)  # a row in flight when an earlier run was killed

    def row(self, entry: str) -> dict[str, Any] | None:
        """The last row of an entry, as its document."""
        place = self.places.get(entry)
        if place is None:
            return None
        line = b""
        while b"\n" not in line:
            line += os.pread(self._file, _ROW, place + len(line))
        return self._parsed(line.partition(b"\n")[0], place)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The last row of each entry, in the order of the file."""
        last = set(self.places.values())
        for place, line in self._lines():
            if place in last:
                yield self._parsed(line, place)

    def add(self, entry: str, line: bytes) -> None:
        """Adds a row, and returns when it is on the disk.

        Raises:
            RunError: there is no room for it; the file is as it was.
        """
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._end + written)
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise RunError(
                f"{self.path}: cannot be written ({error.strerror})",
                hint="what is in it is whole: make room, and the same command goes on from there",
            ) from error
        self.places[entry] = self._end
        self._end += len(line)

    def close(self) -> None:
        """Lets others write it."""
        os.close(self._file)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such system call: whoever starts two runs at once is on their own
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{self.path}: another `bnaudit fleet` writes it",
                hint="wait for it (--status shows how far it is), or name another file (--results)",
            ) from None
        except OSError:  # a file system without locks
            return

    def _read_places(self) -> int:
        """Where the whole lines end."""
        end = 0
        for place, line in self._lines():
            head = _HEAD.match(line)  # a hundred thousand rows are not parsed for their names
            entry = head[1].decode("ascii") if head else self._parsed(line, place).get("entry")
            if not isinstance(entry, str):
                raise UsageError(f"{self.path}: not a file of rows ({SCHEMA})", hint=_HINT)
            self.places[entry] = place
            end = place + len(line) + 1
        return end

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Each whole line, and where it begins."""
        kept, at, place = b"", 0, 0
        while block := os.pread(self._file, _BLOCK, place):
            place += len(block)
            *lines, kept = (kept + block).split(b"\n")
            for line in lines:
                yield at, line
                at += len(line) + 1

    def _parsed(self, line: bytes, place: int) -> dict[str, Any]:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{self.path}: no JSON at byte {place}: something else wrote into it", hint=_HINT
            ) from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise UsageError(f"{self.path}: not a file of rows ({SCHEMA})", hint=_HINT)
        return document
