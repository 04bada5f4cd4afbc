"""Model files of every kind, made small."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"
MLP = FIXTURES / "tabular_mlp"


def script(net: nn.Module, path: Path) -> Path:
    """Scripts and saves, without TorchScript's deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net), str(path))
    return path


def trace(net: nn.Module, x: Any, path: Path) -> Path:
    """Traces and saves, likewise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, x, check_trace=False), str(path))
    return path


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of a zip file with its entries changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def zip_of(**entries: bytes) -> bytes:
    """A zip file; two underscores in a name are a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def export(
    net: nn.Module,
    path: Path,
    *args: Any,
    decompose: bool = False,
    **options: Any,
) -> Path:
    """Exports a module with torch.export and saves the program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, args, **options)
        torch.export.save(program.run_decompositions() if decompose else program, str(path))
    return path
