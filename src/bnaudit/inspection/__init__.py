"""What a model file says of its BatchNorm layers, read without running it and without torch.

A new format is one file here and one line in `INSPECTORS` (and its content test in `load.sniff`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bnaudit.errors import UsageError
from bnaudit.load.sniff import FileKind, require_kind, sniff

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.model import LoadedModel
    from bnaudit.records.inspection import Inspection

# Kind -> (module, function), imported when a file needs it.
INSPECTORS: dict[FileKind, tuple[str, str]] = {
    FileKind.ONNX: ("bnaudit.inspection.onnx", "inspect_onnx"),
    FileKind.CHECKPOINT: ("bnaudit.inspection.checkpoint", "inspect_checkpoint"),
    FileKind.SAFETENSORS: ("bnaudit.inspection.safetensors", "inspect_safetensors"),
    FileKind.TORCHSCRIPT: ("bnaudit.inspection.torchscript", "inspect_torchscript"),
    FileKind.EXPORTED: ("bnaudit.inspection.exported", "inspect_exported"),
    FileKind.ARRAYS: ("bnaudit.inspection.arrays", "inspect_npz"),
    FileKind.PICKLE: ("bnaudit.inspection.arrays", "inspect_pickled"),
    FileKind.KERAS: ("bnaudit.inspection.arrays", "inspect_keras"),
    FileKind.OPENVINO: ("bnaudit.inspection.openvino", "inspect_openvino"),
}


def inspect_file(path: Path, entry: str | None = None) -> Inspection:
    """Reads what a model file stores of its BatchNorm layers; nothing in it is executed.

    Args:
        path: the file, of any kind that `sniff` tells, whatever its extension.
        entry: of a checkpoint with several networks, the keys of the one to read, dotted; None for all.

    Raises:
        InputError: the file cannot be read, or is damaged.
        UsageError: an entry of a file that has none.
    """
    kind = sniff(path)
    require_kind(path, kind, INSPECTORS)
    module, function = INSPECTORS[kind]
    if entry is not None and kind is not FileKind.CHECKPOINT:
        raise UsageError(
            f"{path}: {kind.value} files have no entries",
            hint="--entry is for checkpoints that torch.save wrote",
        )
    extra = {} if entry is None else {"entry": entry}
    inspection: Inspection = getattr(import_module(module), function)(path, **extra)
    return inspection


def inspect_module(loaded: LoadedModel) -> Inspection:
    """The same of a live module, whose parameters are in memory.

    Args:
        loaded: as `load` wraps it.
    """
    inspection: Inspection = import_module("bnaudit.inspection.live").inspect_live(loaded)
    return inspection
