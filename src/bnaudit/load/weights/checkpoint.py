"""PyTorch checkpoints, zip and legacy, however deep the weights lie in them; whole modules too.

A pickle can run code while it is read. `load.pickles` reads it as data: nothing in it runs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.load.pickles.checkpoint import explained, open_checkpoint
from bnaudit.load.pickles.entries import find_entry, mapping
from bnaudit.load.pickles.modules import named_modules
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import WeightFile, layouts_by_class
from bnaudit.load.weights.shards import open_shards
from bnaudit.load.weights.stored import StoredFile, weight_file

_KEYS_SHOWN = 12

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.pickles.entries import Entry


def read_checkpoint(path: Path) -> WeightFile:
    """The tensors of a checkpoint; their numbers are read when they are asked for.

    Raises:
        InputError: it is damaged, or holds no named tensors.
    """
    stored = open_weights(path)
    modules = named_modules(stored.module, once=False) if stored.module is not None else ()
    layouts = layouts_by_class((path, m.kind, m.state.get("groups", 1)) for path, m in modules)
    return weight_file(stored, ordered=True, layouts=layouts)


def open_weights(path: Path, entry: str | None = None) -> StoredFile:
    """A checkpoint, or the checkpoints of an index, by names.

    Args:
        path: the file.
        entry: the keys of the entry to read, dotted; None for the first that holds a network, with the
            others beside it.

    Raises:
        InputError: it is damaged, holds no named tensors, or has no such entry.
    """
    return open_shards(path, partial(_open, wanted=entry))


def _open(path: Path, wanted: str | None) -> StoredFile:
    content, file, form = open_checkpoint(path)
    try:
        with explained(path, "PyTorch checkpoint"):
            entry = find_entry(content, wanted)
    except KeyError as error:
        keys = [str(k) for k in mapping(content) or {}][:_KEYS_SHOWN]
        raise InputError(
            f"{path}: has no entry {wanted!r}", hint=f"its keys are: {', '.join(keys)}"
        ) from error
    except TypeError as error:
        raise InputError(
            f"{path}: holds a {error}, not named tensors",
            hint="save the weights by name: torch.save(model.state_dict(), path)",
        ) from error
    top = mapping(content) or {}
    kept = {k: v for k, v in top.items() if isinstance(k, str)} if entry.path else {}

    def opened(found: Entry, at: str, notes: tuple[str, ...] = (), **more: Any) -> StoredFile:
        return StoredFile(
            path,
            FileKind.CHECKPOINT,
            form,
            found.tensors,
            (file,),
            (path,),
            module=found.module,
            notes=notes,
            entry=at,
            **more,
        )

    beside = {key: opened(other, key) for key, other in entry.beside.items()}
    also = f" (beside it: {', '.join(beside)})" if beside else ""
    notes = (f"{path}: read from its entry {entry.path!r}{also}",) if entry.path else ()
    return opened(entry, entry.path, notes, top=kept, beside=beside)
