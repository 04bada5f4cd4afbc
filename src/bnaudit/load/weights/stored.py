"""Tensors that a file stores by name, their numbers still in it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.load.pickles.objects import DamagedError, Storage, StoredTensor
from bnaudit.load.pickles.vectors import read_vector
from bnaudit.load.weights.model import Layout, NamedTensor, WeightFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bnaudit.load.pickles.numbers import TensorFile
    from bnaudit.load.pickles.objects import Opaque
    from bnaudit.load.sniff import FileKind

COPY_AGAIN = "damaged or cut off? copy it again and compare the size"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A checkpoint or safetensors file, opened; of several files where it is sharded.

    Attributes:
        path: what the user named.
        kind: what it is.
        form: how it is stored: "zip", "legacy" or "safetensors".
        tensors: name -> tensor, in the file's order.
        parts: the files that hold the numbers.
        owners: name -> index into `parts`, where that is not 0.
        paths: the files of `parts`.
        module: the whole module, where one was pickled.
        top: what stands beside the weights, by key: versions, epochs.
        beside: further entries of the file that hold weights, by key.
        notes: what the user should know of how the file was read.
        entry: the keys that lead to these tensors, dotted; "" where the file is nothing else.
    """

    path: Path
    kind: FileKind
    form: str
    tensors: Mapping[str, StoredTensor]
    parts: tuple[TensorFile, ...]
    paths: tuple[Path, ...]
    owners: Mapping[str, int] = field(default_factory=dict)
    module: Opaque | None = None
    top: Mapping[str, object] = field(default_factory=dict)
    beside: Mapping[str, StoredFile] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    entry: str = ""

    def read(self, name: str) -> NDArray[np.float64]:
        """The elements of a tensor of real numbers, in its shape.

        Raises:
            InputError: they are damaged or outside the file.
        """
        from bnaudit.load.pickles.numbers import read_tensor

        part = self.owners.get(name, 0)
        with self._explained(part):
            return read_tensor(self.parts[part], self.tensors[name])

    def vector(self, tensor: StoredTensor, part: int = 0) -> tuple[float, ...]:
        """The elements of a tensor of one dimension or none, of one of the parts; without numpy.

        Raises:
            InputError: they are damaged or outside the file.
        """
        with self._explained(part):
            return read_vector(self.parts[part], tensor)

    @contextmanager
    def _explained(self, part: int) -> Iterator[None]:
        path = self.paths[part]
        try:
            yield
        except DamagedError as error:
            raise InputError(f"{path}: cannot be read ({error})", hint=COPY_AGAIN) from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        except MemoryError as error:
            raise InputError(f"{path}: needs more memory than there is") from error

    @property
    def size(self) -> int:
        """Bytes on disk of all parts."""
        return sum(path.stat().st_size for path in self.paths)


def dense(key: str, dtype: str, shape: tuple[int, ...], *, turned: bool = False) -> StoredTensor:
    """A tensor whose numbers are a storage of their own, row by row.

    Args:
        key: of the storage.
        dtype: torch's name of it.
        shape: its sizes.
        turned: column by column instead, as Fortran has it.
    """
    steps = (prod(shape[:i] if turned else shape[i + 1 :]) for i in range(len(shape)))
    return StoredTensor(Storage(key, dtype, prod(shape)), dtype, shape, tuple(steps))


def weight_file(stored: StoredFile, *, ordered: bool, layouts: Mapping[str, Layout]) -> WeightFile:
    """Its floating-point tensors, for whoever wants all the numbers one tensor at a time."""
    left_out = sum(
        1
        for t in stored.tensors.values()
        if (t.layout not in ("strided", "meta", "pickled") or t.dtype.startswith("complex"))
    )
    what = f"{left_out} quantised, sparse, complex or unknown tensors left out"
    return WeightFile(
        stored.path,
        stored.kind,
        tuple(
            NamedTensor(name, tensor.shape, partial(stored.read, name))
            for name, tensor in stored.tensors.items()
            if tensor.is_float
        ),
        ordered=ordered,
        layouts=layouts,
        notes=(*stored.notes, f"{stored.path}: {what}") if left_out else stored.notes,
    )
