"""Tensors that torch.save or safetensors wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.arrays import to_tensor
from bnaudit.data.rows import Held, Span
from bnaudit.data.sources.source import Found
from bnaudit.errors import DataError, InputError
from bnaudit.load.archive import require_intact
from bnaudit.load.pickles.numbers import PlacedFile
from bnaudit.load.weights.safetensors import open_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.data.rows import Rows
    from bnaudit.data.sources.source import Wanted

_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa850")
_HEADER = 8
"""Bytes in front of a safetensors header, which begins with a brace."""


def is_saved(path: Path, head: bytes) -> bool:
    """Whether torch.save may have written it; of zip files those that no other source takes."""
    del path
    return head.startswith((b"PK", b"\x80"))


def read_saved(path: Path, wanted: Wanted) -> Found:
    """A tensor, a list or a mapping of them, if its checksums are right, which PyTorch does not compare."""
    del wanted
    try:
        require_intact(path)
    except InputError as error:
        raise DataError(error.message, hint=error.hint) from error
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, torch.Tensor):
        return Found({"0": Held(to_tensor(content, str(path)))}, named=False)
    if isinstance(content, dict) and all(isinstance(v, torch.Tensor) for v in content.values()):
        return Found({str(k): Held(to_tensor(v, f"{path}: {k}")) for k, v in content.items()})
    if isinstance(content, (list, tuple)) and all(isinstance(v, torch.Tensor) for v in content):
        return Found(
            {str(i): Held(to_tensor(v, str(path))) for i, v in enumerate(content)}, named=False
        )
    raise DataError(f"{path}: holds no tensors (a tensor, a list or a dict of tensors is read)")


def is_safetensors(path: Path, head: bytes) -> bool:
    """Whether it is one, or by its name wants to be."""
    return head[_HEADER : _HEADER + 1] == b"{" or path.suffix == ".safetensors"


def read_safetensors(path: Path, wanted: Wanted) -> Found:
    """Its tensors by name, left in the file."""
    del wanted
    try:
        stored = open_safetensors(path)
    except InputError as error:
        raise DataError(error.message, hint=error.hint) from error
    arrays: dict[str, Rows] = {}
    for name, tensor in stored.tensors.items():
        dtype = getattr(torch, tensor.dtype, None)
        part = stored.owners.get(name, 0)
        file = stored.parts[part]
        if (
            tensor.storage is None
            or not isinstance(dtype, torch.dtype)
            or not isinstance(file, PlacedFile)
        ):
            raise DataError(
                f"{path}: {name}: holds {tensor.dtype}, which is not read",
                hint="floats, integers or booleans",
            )
        if dtype.is_complex or (dtype.itemsize < 2 and dtype.is_floating_point):
            raise DataError(
                f"{path}: {name}: holds {tensor.dtype}, not real numbers that PyTorch computes with",
                hint="save it as float32",
            )
        span = Span(
            stored.paths[part], file.position(tensor.storage, 0), tensor.shape or (1,), dtype
        )
        arrays[name] = span if tensor.shape else Held(span.all()[0])
    return Found(arrays, notes=stored.notes)
