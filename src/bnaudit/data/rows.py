"""Arrays whose first axis are samples, read when they are asked for: data may be larger than memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import DataError
from bnaudit.files import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor


class Rows(ABC):
    """One array.

    Attributes:
        shape: of all of it; () is a number that has no rows.
        dtype: of what `take` gives.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @abstractmethod
    def take(self, index: Tensor) -> Tensor:
        """Some rows, on the CPU.

        Args:
            index: (n,) int64, in any order, with repetitions.

        Returns:
            (n, ...).

        Raises:
            DataError: they cannot be read.
        """

    def all(self) -> Tensor:
        """Every row, in order."""
        return self.take(torch.arange(len(self)))

    def dim(self) -> int:
        """How many axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """What one row takes in memory."""
        return prod(self.shape[1:]) * self.dtype.itemsize


class Held(Rows):
    """An array in memory."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype

    def take(self, index: Tensor) -> Tensor:
        """See `Rows.take`."""
        return self.tensor[index]

    def all(self) -> Tensor:
        """See `Rows.all`."""
        return self.tensor


class Listed:
    """Labels that are no array, one a row: boxes, mappings."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def dim(self) -> int:
        """As an array of one axis."""
        return 1

    def take(self, index: Tensor) -> Any:
        """Those of some rows, as a list."""
        return [self.values[row] for row in index.tolist()]

    def all(self) -> Any:
        """All of them."""
        return self.values


class Span(Rows):
    """Rows that stand one behind the other in a file, as they are in memory.

    They are read by their place and not mapped: what nobody asks for takes no memory and no address space
    (which limits count), and a file that shrinks meanwhile is an error and no signal.
    """

    def __init__(self, path: Path, start: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.path, self.start = path, start
        self.shape, self.dtype = tuple(shape), dtype

    def take(self, index: Tensor) -> Tensor:
        """See `Rows.take`."""
        found = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        size = self.row_bytes
        if not size:
            return found
        bytes_ = raw(found)
        with opened(self.path) as file:
            for first, place, count in _runs(index.tolist()):
                file.seek(self.start + first * size)
                into = bytes_[place * size : (place + count) * size]
                if file.readinto(into) != len(into):  # type: ignore[attr-defined]
                    raise DataError(
                        f"{self.path}: cut off at row {first}",
                        hint="copy or download it again and compare the size",
                    )
        return found


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, to be read or written."""
    flat: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def _runs(index: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first row, its place in the index, how many follow each other)."""
    place = 0
    while place < len(index):
        count = 1
        while place + count < len(index) and index[place + count] == index[place] + count:
            count += 1
        yield index[place], place, count
        place += count


class Joined(Rows):
    """Several arrays, one behind the other.

    Args:
        parts: alike but for their first axis.
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = parts
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        for part in parts[1:]:
            self.dtype = torch.promote_types(self.dtype, part.dtype)

    def take(self, index: Tensor) -> Tensor:
        """See `Rows.take`."""
        found = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        start = 0
        for part in self.parts:
            inside = (index >= start) & (index < start + len(part))
            if bool(inside.any()):
                found[inside] = part.take(index[inside] - start).to(self.dtype)
            start += len(part)
        return found
