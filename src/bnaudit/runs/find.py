"""Which files a run has: those that are named, those that a pattern fits, and the checkpoints of a folder."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.errors import InputError, UsageError
from bnaudit.files import exists
from bnaudit.load.reference import factory_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SUFFIXES = frozenset(
    {
        *(".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl", ".safetensors", ".onnx", ".npz", ".h5"),
        *(".keras", ".pdparams", ".jsonl"),
    }
)
"""What is looked at in a folder, where no name was typed."""
_WHOLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""The weights in a folder that the Trainer of Hugging Face wrote; its other files hold none."""
_OTHERS = re.compile(r"(optimizer|scheduler|scaler|rng_state.*|training_args|random_states.*)\.\w+")
_DEEPEST = 4
_MOST = 100_000


def files_of(runs: Sequence[str]) -> list[Path]:
    """The files of a run, each once, in the order of the command; folders and patterns by name.

    A file that is not there is one of them: the others are read all the same.

    Args:
        runs: files, folders, patterns.

    Raises:
        UsageError: one is the code of a network.
        InputError: a folder or a pattern holds nothing to read, or a folder cannot be looked into.
    """
    found: dict[Path, None] = {}
    for run in runs:
        if factory_reference(run) is not None:
            raise UsageError(
                f"{run} is the code of a network, not a file of a run",
                hint=f"--code {run} runs the checkpoints with it",
            )
        path = Path(run)
        if path.is_dir():
            inside = list(_inside(path, 0))
            if not inside:
                raise InputError(
                    f"{run}: a folder without checkpoints",
                    hint=f"looked for {', '.join(sorted(_SUFFIXES))}; name the files, or a pattern",
                )
        elif not exists(path) and glob.has_magic(run):
            inside = [p for text in glob.glob(run, recursive=True) for p in _named(Path(text))]  # noqa: PTH207
            inside.sort(key=_natural)
            if not inside:
                raise InputError(
                    f"{run}: no file fits the pattern", hint="** stands for folders between"
                )
        else:
            inside = [path]
        found |= dict.fromkeys(inside)
    if len(found) > _MOST:
        raise UsageError(f"{len(found)} files are no run", hint="name fewer, by a pattern")
    return list(found)


def _named(path: Path) -> Iterator[Path]:
    """A file that a pattern fits, or those of a folder that it fits."""
    return _inside(path, 0) if path.is_dir() else iter([path])


def _inside(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir(), key=_natural)
    except OSError as error:
        raise InputError(f"{folder}: cannot be looked into ({error.strerror})") from error
    whole = next((folder / name for name in _WHOLE if folder / name in entries), None)
    if whole is not None:
        yield whole
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if depth < _DEEPEST and not entry.is_symlink():
                yield from _inside(entry, depth + 1)
        elif entry.suffix.lower() in _SUFFIXES and not _OTHERS.fullmatch(entry.name):
            yield entry


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers in names by their value."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(p), "") if p.isdecimal() and len(p) < 20 else (-1, p) for p in parts]
