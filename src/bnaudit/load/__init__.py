"""Model files and live modules into one shape: `LoadedModel`.

A new format is one file here and one line in `_LOADERS` (and its content test in `sniff`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.load.sniff import FileKind, sniff

if TYPE_CHECKING:
    from torch import nn

    from bnaudit.load.model import LoadedModel

# Kind -> (module, function), imported when a file needs it: onnx alone costs a third of a second.
_LOADERS: dict[FileKind, tuple[str, str]] = {
    FileKind.ONNX: ("bnaudit.load.onnx", "load_onnx"),
    FileKind.TORCHSCRIPT: ("bnaudit.load.torchscript", "load_torchscript"),
}

_NO_LOADER_HINT: dict[FileKind, str] = {
    FileKind.CHECKPOINT: "a checkpoint holds weights but no network to run: export the model with "
    "torch.jit.script or torch.onnx.export, or call bnaudit.audit(model, ...) from Python",
    FileKind.SAFETENSORS: "safetensors holds weights but no network to run: export the model with "
    "torch.jit.script or torch.onnx.export, or call bnaudit.audit(model, ...) from Python",
    FileKind.EXPORTED: "loading a .pt2 file can execute code from it and is not supported; export "
    "ONNX or TorchScript, or call bnaudit.audit(torch.export.load(path).module(), ...) from Python",
}


def load(model: str | Path | nn.Module) -> LoadedModel:
    """Loads a model file by its content, or wraps a live module.

    Args:
        model: path of an ONNX or TorchScript file, or a `torch.nn.Module`.

    Raises:
        InputError: the file cannot be read, or is of a kind that cannot be run.
    """
    if not isinstance(model, (str, Path)):
        from bnaudit.load.live import load_live

        return load_live(model)
    path = Path(model)
    kind = sniff(path)
    if kind not in _LOADERS:
        raise InputError(f"{path}: is a {kind.value} file", hint=_NO_LOADER_HINT[kind])
    module, function = _LOADERS[kind]
    loaded: LoadedModel = getattr(import_module(module), function)(path)
    return loaded
