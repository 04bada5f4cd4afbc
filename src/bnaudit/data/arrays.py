"""Whatever holds numbers into a dense tensor on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnaudit.data.signature import wanted
from bnaudit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from bnaudit.load.model import LoadedModel

_WIDEST_FLOAT = 8


def is_array(data: Any) -> bool:
    """Whether this is one array, not a collection of them."""
    return isinstance(data, (torch.Tensor, np.ndarray))


def to_tensor(value: Any, subject: str) -> Tensor:
    """A tensor, a numpy array or nested numbers as a tensor.

    Args:
        value: the numbers.
        subject: named in errors.

    Raises:
        DataError: it holds no numbers, or is no dense array.
    """
    if isinstance(value, torch.Tensor):
        odd = value.is_quantized or value.is_meta or value.is_nested
        if odd or value.layout != torch.strided:
            raise DataError(
                f"{subject}: a sparse, quantized, nested or meta tensor",
                hint="give dense tensors: tensor.to_dense(), tensor.dequantize()",
            )
        return value.detach().cpu()
    if _is_picture(value):
        raise DataError(
            f"{subject}: holds PIL images, not numbers",
            hint="make tensors of them as in training: transforms.ToTensor(), transforms.Normalize(...); "
            "a folder of images is read by --data FOLDER",
        )
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
        return _stacked(value, subject)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{subject}: a {type(value).__name__} is no array of numbers",
            hint="arrays, tensors and lists of numbers of one shape are read, and iterables of batches "
            "such as a DataLoader",
        ) from error
    return from_numpy(array, subject)


def _is_picture(value: Any) -> bool:
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return type(first).__module__.partition(".")[0] == "PIL"


def _stacked(value: Sequence[Any], subject: str) -> Tensor:
    """A list of tensors, as loaders without collation give them."""
    try:
        return torch.stack([to_tensor(part, subject) for part in value])
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"{subject}: a list of tensors of different shapes is no batch",
            hint="pad, crop or resize them alike",
        ) from error


def from_numpy(array: Any, subject: str) -> Tensor:
    """A numpy array as a tensor; no copy where PyTorch can share the memory.

    Raises:
        DataError: it holds no real numbers.
    """
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{subject}: holds {array.dtype}, not real numbers",
            hint="arrays of floats, integers or booleans are read",
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > _WIDEST_FLOAT:
        array = array.astype(np.float64)  # numpy's longdouble has no counterpart in PyTorch
    if array.dtype.byteorder not in "=|<":
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _members(name: str, value: Any, *, grouped: bool) -> Iterator[tuple[str, Any]]:
    """Of an input that takes several tensors, as `batch.image`, `xs.0`; any other is itself."""
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}", v) for key, v in value.items()]
    elif grouped and isinstance(value, (tuple, list)) and any(map(is_array, value)):
        parts = [(f"{name}.{i}", v) for i, v in enumerate(value)]
    else:
        yield name, value
        return
    for part, inner in parts:
        yield from _members(part, inner, grouped=grouped)


def by_name(data: Any, model: LoadedModel) -> dict[str, Tensor]:
    """A mapping by input name, or arrays in the model's input order, as tensors by name.

    Raises:
        DataError: there are more or fewer arrays than inputs, or one is no array.
    """
    if isinstance(data, Mapping):
        return {
            name: to_tensor(inner, f"data: {name}")
            for key, value in data.items()
            for name, inner in _members(str(key), value, grouped=str(key) in model.groups)
        }
    parts = list(data) if isinstance(data, (tuple, list)) else [data]
    if len(parts) != len(model.inputs):
        raise DataError(
            f"data: {len(parts)} array(s) for {len(model.inputs)} inputs", hint=wanted(model)
        )
    return {
        s.name: to_tensor(p, f"data: {s.name}") for s, p in zip(model.inputs, parts, strict=True)
    }
