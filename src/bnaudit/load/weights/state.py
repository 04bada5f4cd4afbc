"""All tensors of a file by name in their own types, to be loaded into a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bnaudit.errors import InputError
from bnaudit.load.sniff import FileKind, sniff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


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


def read_state(path: Path) -> State:
    """The tensors of a checkpoint, safetensors, TorchScript or ONNX file.

    Nothing in the file is executed: pickles are read with `weights_only`.

    Raises:
        InputError: it cannot be read, or holds no named tensors.
    """
    kind = sniff(path)
    if kind is FileKind.CHECKPOINT:
        state = _checkpoint(path)
    elif kind is FileKind.SAFETENSORS:
        state = _safetensors(path)
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


def _checkpoint(path: Path) -> State:
    from bnaudit.load.weights.checkpoint import find_state, flatten, load_checkpoint

    entry, mapping, others = find_state(path, load_checkpoint(path))
    beside = f" (beside it: {', '.join(others)})" if others else ""
    notes = (f"{path}: read from its entry {entry!r}{beside}",) if entry else ()
    return State(dict(flatten(mapping)), notes=notes)


def _safetensors(path: Path) -> State:
    from bnaudit.load.weights.safetensors import entries

    tensors: dict[str, Tensor] = {}
    left_out = 0
    for entry in entries(path):
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            left_out += 1
            continue
        raw = np.fromfile(path, dtype=np.uint8, count=entry.length, offset=entry.offset)
        tensors[entry.name] = torch.from_numpy(raw).view(dtype).reshape(entry.shape)
    notes = (f"{path}: {left_out} tensors of 8-bit floats and other kinds left out",)
    return State(tensors, notes=notes if left_out else ())


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
