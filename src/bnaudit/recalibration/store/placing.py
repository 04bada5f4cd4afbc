"""A written model comes to its place whole, or not at all, and never over what was read."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def require_free(output: Path, sources: Iterable[Path]) -> None:
    """Refuses to write where something is read from.

    Raises:
        UsageError: it is a folder, lies in none, or is one of the sources.
    """
    if output.is_dir():
        raise UsageError(f"{output}: is a folder", hint="name the file to write")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}", hint="make it first")
    source = next((s for s in sources if _is_same(output, s)), None)
    if source is not None:
        alias = "" if source == output else f" (as {source})"
        raise UsageError(
            f"{output}: is read by this command{alias}, and is never written over",
            hint="name another file; move it there when you are content with it",
        )


def _is_same(one: Path, two: Path) -> bool:
    if one.exists() and two.exists():
        return one.samefile(two)
    return os.path.realpath(one) == os.path.realpath(two)


@contextmanager
def beside(output: Path, sources: Iterable[Path]) -> Iterator[Path]:
    """An empty folder beside the output; what lies in it at the end takes its place, the model last.

    Args:
        output: the file to write.
        sources: what is read.

    Raises:
        UsageError: a file cannot be written there.
    """
    sources = list(sources)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as name:
            folder = Path(name)
            yield folder
            files = sorted(folder.iterdir(), key=lambda path: path.name == output.name)
            for file in files:
                require_free(output.parent / file.name, sources)
                _settle(file)
            for file in files:
                file.replace(output.parent / file.name)
            _settle(output.parent)
    except OSError as error:
        raise UsageError(
            f"{output}: cannot be written ({error.strerror or error})", hint="name another file"
        ) from error


def _settle(path: Path) -> None:
    """Its bytes reach the disk before its name does."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
