"""Weights in several files, read as one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.load.index import shard_paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.load.weights.stored import StoredFile

_ONE_OF_MANY = re.compile(r"-0*(\d+)-of-0*(\d+)\.")


def open_shards(path: Path, open_one: Callable[[Path], StoredFile]) -> StoredFile:
    """The file, or all files of an index, as one.

    Args:
        path: a file of weights, or an index of several.
        open_one: opens one of them.

    Raises:
        InputError: one of them cannot be read.
    """
    shards = shard_paths(path)
    if shards is None:
        alone = open_one(path)
        part = _ONE_OF_MANY.search(path.name)
        if part is None or part[2] == "1":
            return alone
        note = f"{path}: part {part[1]} of {part[2]} by its name; the index file leads to all"
        return replace(alone, notes=(*alone.notes, note))
    files = [open_one(shard) for shard in shards]
    return replace(
        files[0],
        path=path,
        tensors={n: t for file in files for n, t in file.tensors.items()},
        parts=tuple(part for file in files for part in file.parts),
        paths=shards,
        owners={n: i for i, file in enumerate(files) for n in file.tensors},
        notes=tuple(note for file in files for note in file.notes),
    )
