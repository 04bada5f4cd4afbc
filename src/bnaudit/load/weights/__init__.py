"""Named parameters out of any file that holds them, with or without a network to run.

A new format is one file here and one line in `_READERS` (and its content test in `sniff`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.load.sniff import FileKind, require_kind, sniff

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.weights.model import WeightFile

# Kind -> (module, function), imported when a file needs it: safetensors need neither torch nor onnx.
_READERS: dict[FileKind, tuple[str, str]] = {
    FileKind.CHECKPOINT: ("bnaudit.load.weights.checkpoint", "read_checkpoint"),
    FileKind.SAFETENSORS: ("bnaudit.load.weights.safetensors", "read_safetensors"),
    FileKind.EXPORTED: ("bnaudit.load.weights.exported", "read_exported"),
    FileKind.ONNX: ("bnaudit.load.weights.onnx_graph", "read_onnx"),
    FileKind.TORCHSCRIPT: ("bnaudit.load.weights.torchscript", "read_torchscript"),
    FileKind.ARRAYS: ("bnaudit.load.weights.arrays", "read_npz"),
}

RUNNABLE = frozenset({FileKind.ONNX, FileKind.TORCHSCRIPT})
"""Kinds that hold a network as well."""


def read_weights(path: Path) -> WeightFile:
    """The named tensors of a file, whatever its extension says.

    Nothing in the file is executed or imported: pickles are read as data (`load.pickles`).

    Args:
        path: a checkpoint, safetensors, ONNX, TorchScript or torch.export file, or the index of a
            sharded one.

    Raises:
        InputError: it cannot be read, or holds no floating-point tensors.
    """
    kind = sniff(path)
    require_kind(path, kind, _READERS)
    module, function = _READERS[kind]
    file: WeightFile = getattr(import_module(module), function)(path)
    if not file.tensors:
        raise InputError(
            f"{path}: holds no named floating-point tensors",
            hint="point bnaudit at the checkpoint or exported model itself",
        )
    return file
