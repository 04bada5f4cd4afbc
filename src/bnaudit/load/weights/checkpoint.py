"""PyTorch checkpoints, zip and legacy, however deep the weights lie in them; whole modules too.

A pickle can run code while it is read. `load.pickles` reads it as data: nothing in it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.load.pickles.checkpoint import explained, open_checkpoint
from bnaudit.load.pickles.entries import find_entry, mapping
from bnaudit.load.pickles.modules import named_modules
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import Layout, WeightFile
from bnaudit.load.weights.shards import open_shards
from bnaudit.load.weights.stored import StoredFile, weight_file

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.pickles.entries import Entry
    from bnaudit.load.pickles.objects import Opaque


def read_checkpoint(path: Path) -> WeightFile:
    """The tensors of a checkpoint; their numbers are read when they are asked for.

    Raises:
        InputError: it is damaged, or holds no named tensors.
    """
    stored = open_weights(path)
    layouts = _layouts(stored.module) if stored.module is not None else {}
    return weight_file(stored, ordered=True, layouts=layouts)


def open_weights(path: Path) -> StoredFile:
    """A checkpoint, or the checkpoints of an index, by names.

    Raises:
        InputError: it is damaged, or holds no named tensors.
    """
    return open_shards(path, _open)


def _open(path: Path) -> StoredFile:
    content, file, form = open_checkpoint(path)
    try:
        with explained(path, "PyTorch checkpoint"):
            entry = find_entry(content)
    except TypeError as error:
        raise InputError(
            f"{path}: holds a {error}, not named tensors",
            hint="save the weights by name: torch.save(model.state_dict(), path)",
        ) from error
    top = mapping(content) or {}
    return StoredFile(
        path,
        FileKind.CHECKPOINT,
        form,
        entry.tensors,
        (file,),
        (path,),
        module=entry.module,
        top={k: v for k, v in top.items() if isinstance(k, str)} if entry.path else {},
        notes=_notes(path, entry),
    )


def _notes(path: Path, entry: Entry) -> tuple[str, ...]:
    """Which of several entries was read."""
    if not entry.path:
        return ()
    beside = f" (beside it: {', '.join(entry.beside)})" if entry.beside else ""
    return (f"{path}: read from its entry {entry.path!r}{beside}",)


def _layouts(root: Opaque) -> dict[str, Layout]:
    """Where the weights of a pickled module have their output channels, by the class's name."""
    layouts: dict[str, Layout] = {}
    for path, module in named_modules(root, once=False):
        name = f"{path}.weight" if path else "weight"
        if module.kind.startswith(("ConvTranspose", "LazyConvTranspose")):
            groups = module.state.get("groups", 1)
            layouts[name] = Layout(1, groups if isinstance(groups, int) else 1)
        elif module.kind.startswith(("Conv", "LazyConv", "Linear")):
            layouts[name] = Layout(0)
    return layouts
