"""Whether what a row was made from is still the same: options by a digest, files by their content."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit._version import __version__
from bnaudit.files import Seen, is_file, opened
from bnaudit.records.fleet import FileRead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RACY = 2_000_000_000
"""Nanoseconds: some file systems' times are no finer, and a change within them would not be seen."""
_SHOWN = frozenset(
    ("stdout_format", "outputs", "color", "progress", "quiet", "verbose", "timeout", "max_memory")
)
"""Options that no number of a row follows from."""
_BLOCK = 1 << 20


def entry_of(model: str, own: Mapping[str, Any]) -> str:
    """A name for one model with its own options, the same in every run."""
    told = {name: value for name, value in own.items() if name != "baseline"}
    return _digest([model, told])[:16]


def settings_of(given: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """A digest of everything but files that a report follows from.

    Args:
        given: all options of one model, by parameter.
        config: what the configuration sets, by key.
    """
    told = {name: value for name, value in given.items() if name not in _SHOWN}
    policy = {key: config[key] for key in ("severity", "thresholds", "per-layer") if key in config}
    return _digest([__version__, told, policy])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def files_of(seen: Iterable[Seen]) -> tuple[FileRead, ...]:
    """The files that were read, with their content as it was then, as far as nothing has changed it."""
    found = []
    for path, size, modified in sorted(seen):
        content = _content(path, size, modified)
        found.append(FileRead(path, size, modified, content))
    return tuple(found)


def unchanged(row: Mapping[str, Any]) -> bool:
    """Whether every file that a row was made from has the same content.

    Where size and time are as they were, the content is: it is read again only where the file was young.
    """
    began = datetime.fromisoformat(row["started"]).timestamp() * 1e9
    for file in row["files"]:
        try:
            now = os.stat(file["path"])  # noqa: PTH116  # a path of any spelling
        except (OSError, ValueError):
            return False
        if not file["sha256"] or now.st_size != file["size"]:
            return False
        same_time = now.st_mtime_ns == file["modified"] and began - file["modified"] > _RACY
        if not same_time and file["sha256"] != _content(file["path"], now.st_size, now.st_mtime_ns):
            return False
    return True


@lru_cache(maxsize=64)
def _content(path: str, size: int, modified: int) -> str:
    """SHA-256 of a file of this size and time; empty where it is another one by now, or cannot be read."""
    digest = hashlib.sha256()
    try:
        with opened(Path(path), renewable=True) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
            after = os.fstat(file.fileno())
    except OSError:
        return ""
    return digest.hexdigest() if (after.st_size, after.st_mtime_ns) == (size, modified) else ""


def known_files(model: str, given: Mapping[str, Any]) -> tuple[Seen, ...]:
    """The files that the options name, whether anybody has read them."""
    texts = [model, *given.get("data", ())]
    texts += [str(given[name]) for name in ("weights", "labels", "loss") if given.get(name)]
    seen = []
    for text in texts:
        for path in (text, text.partition("=")[2], text.rpartition(":")[0]):
            if path and is_file(path):
                now = os.stat(path)  # noqa: PTH116
                seen.append(Seen(path, now.st_size, now.st_mtime_ns))
                break
    return tuple(dict.fromkeys(seen))
