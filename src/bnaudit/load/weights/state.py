"""All tensors of a file by name in their own types, to be loaded into a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from bnaudit.errors import InputError
from bnaudit.load.sniff import FileKind, sniff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from bnaudit.load.pickles.objects import StoredTensor
    from bnaudit.load.weights.stored import StoredFile


@dataclass(frozen=True, slots=True)
class State:
    """What a file holds.

    Attributes:
        tensors: name in the file -> values.
        complete: whether the file has integers too; ONNX keeps none of a network's counters.
        notes: what the user should know of how the file was read.
    """

    tensors: Mapping[str, Tensor]
    complete: bool = True
    notes: tuple[str, ...] = ()


def read_state(
    path: Path, entry: str | None, fit: Callable[[Mapping[str, StoredTensor]], int]
) -> State:
    """The tensors of a checkpoint, safetensors, TorchScript or ONNX file.

    Nothing in the file is executed: pickles are read as data.

    Args:
        path: the file.
        entry: of a checkpoint with several networks; None for the first of those that fit best.
        fit: how many of some tensors are wanted.

    Raises:
        InputError: it cannot be read, or holds no named tensors.
        UsageError: an entry of a file that has none.
    """
    kind = sniff(path)
    if entry is not None and kind is not FileKind.CHECKPOINT:
        raise InputError(f"{path}: {kind.value}, which has no entries", hint="leave --entry out")
    if kind is FileKind.CHECKPOINT:
        from bnaudit.load.archive import require_intact
        from bnaudit.load.weights.checkpoint import open_weights

        require_intact(path)
        state = _stored(_best(open_weights(path, entry), fit))
    elif kind is FileKind.SAFETENSORS:
        from bnaudit.load.weights.safetensors import open_safetensors

        state = _stored(open_safetensors(path))
    elif kind is FileKind.TORCHSCRIPT:
        from bnaudit.load.torchscript import load_torchscript

        state = State(load_torchscript(path).module.state_dict())
    else:
        from bnaudit.load.weights import read_weights

        found = read_weights(path)
        arrays = {t.name: torch.from_numpy(np.array(t.read())) for t in found.tensors}
        state = State(arrays, complete=False, notes=found.notes)
    if not state.tensors:
        raise InputError(
            f"{path}: holds no named tensors",
            hint="point --weights at the checkpoint itself: torch.save(model.state_dict(), path)",
        )
    return state


def _best(stored: StoredFile, fit: Callable[[Mapping[str, StoredTensor]], int]) -> StoredFile:
    """Of several networks in a file the one that fits, and a note of the others."""
    if not stored.beside:
        return stored
    networks = {stored.entry: stored, **stored.beside}
    key = max(networks, key=lambda k: fit(networks[k].tensors))  # the first of the largest
    others = ", ".join(k for k in networks if k != key)
    note = (
        f"{stored.path}: read from its entry {key!r}; {others} left out: --entry KEY loads another"
    )
    return replace(networks[key], notes=(note,))


def _stored(file: StoredFile) -> State:
    """Numbers are read in float64, which holds all but integers beyond 2**53, which no counter reaches."""
    tensors: dict[str, Tensor] = {}
    left_out = 0
    for name, stored in file.tensors.items():
        dtype = getattr(torch, stored.dtype, None)
        if stored.storage is None or stored.layout != "strided" or dtype not in _REAL:
            left_out += 1
            continue
        tensors[name] = torch.from_numpy(np.array(file.read(name))).to(dtype)
    if not left_out:
        return State(tensors, notes=file.notes)
    note = f"{file.path}: {left_out} quantised, sparse, complex and other tensors left out"
    return State(tensors, notes=(*file.notes, note))


_REAL = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)
