"""Whether a model exported at one batch size may be run at another.

The rewrite that frees the batch axis (`bnaudit.load.onnx.lift`) guesses where a graph leaves open which
axis the batch is, and a network may mix its rows (centre them, attend from one to another). Both are
proved on the data, in inference mode, at the input of every BatchNorm and at every output:

1. at the exported size the rewritten model computes what the model of the file computes;
2. in a batch of another size each row gets what the model of the file gives it at the exported size.

Cost: one forward pass of the rewritten model on the batch, one of the file's on the same rows in parts of
the exported size, and both on one such part; as much again in float64 where float32 leaves a doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from bnaudit.data.batch import Batch
from bnaudit.data.outputs import floating, named_tensors
from bnaudit.errors import RunError
from bnaudit.tap.call import normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from torch import Tensor

    from bnaudit.measure.execution import Execution
    from bnaudit.tap.call import BatchNormCall
    from bnaudit.tap.naming import Namer

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Of a value's largest entry. Kernels that sum in another order for another size leave 1e-6 in float32;
a network that amplifies it is compared in float64."""

CHANGED = "the rewrite for other batch sizes would change what it computes"
FAILED = "it fails at other batch sizes"
DEPENDENT = "its rows depend on the batch size"


class Runnable(NamedTuple):
    """A model that can be run on a batch, and the names of its layers."""

    execution: Execution
    namer: Namer


def objection(lifted: Runnable, original: Runnable, batch: Batch, size: int) -> str | None:
    """Why the rewritten model may not be run on this batch; None where it may.

    Args:
        lifted: its batch axis freed.
        original: the file's own; the same object where nothing had to be rewritten.
        batch: to be run, of any size.
        size: the exported batch size.

    Raises:
        RunError: the original cannot be run at its own size.
    """
    rows = next((t.shape[0] for t in batch.inputs if t.dim()), 1)
    first = _values(original, resized(batch, size))
    try:
        if lifted is not original and not _agree(_values(lifted, resized(batch, size)), first):
            return CHANGED
        together = _values(lifted, batch)
    except RunError:
        return FAILED
    found = {key: _Rows(value, rows) for key, value in together.items()}
    for start in range(0, rows, size):
        index = torch.arange(start, start + size) % rows
        parts = _values(original, _taken(batch, index)) if start else first
        if parts.keys() != found.keys() or not all(
            found[key].hold(part, index) for key, part in parts.items()
        ):
            return DEPENDENT
    return None


def resized(batch: Batch, size: int) -> Batch:
    """The first `size` rows, beginning again where there are fewer."""
    rows = next((t.shape[0] for t in batch.inputs if t.dim()), 1)
    return _taken(batch, torch.arange(size) % rows)


def _taken(batch: Batch, index: Tensor) -> Batch:
    return Batch(tuple(t if t.dim() == 0 else t[index] for t in batch.inputs))


def _values(model: Runnable, batch: Batch) -> dict[Hashable, Tensor]:
    """The input of every BatchNorm call, and every output."""
    found: dict[Hashable, Tensor] = {}

    def keep(call: BatchNormCall) -> Tensor:
        found[call.key] = call.x
        return normalise(call, call.x, "running")

    with tapped(model.namer, keep) as tap, torch.no_grad():
        tap.start()
        outputs = floating(named_tensors(model.execution.outputs(batch)))
    return found | outputs


def _agree(ours: dict[Hashable, Tensor], theirs: dict[Hashable, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(_close(a, theirs[k]) for k, a in ours.items())


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    finite = wanted[wanted.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    limit = _TOLERANCE.get(wanted.dtype, 1e-5) * scale
    return torch.allclose(found, wanted, rtol=0.0, atol=limit, equal_nan=True)


@dataclass(slots=True)
class _Rows:
    """A value of the whole batch, to be compared with that of some of its rows.

    A network may move the batch to any axis and merge it with others there: an axis of blocks, rows and
    whatever is left of it. The order of rows is no matter of BatchNorm, so any place at which all parts
    are found again will do.

    Attributes:
        value: of the whole batch.
        rows: how many the batch has.
        places: axis and blocks at which all parts so far were found; None before the first.
    """

    value: Tensor
    rows: int
    places: list[tuple[int, int]] | None = field(default=None)

    def hold(self, part: Tensor, index: Tensor) -> bool:
        """Whether these rows of the batch have the value `part`."""
        if part.shape == self.value.shape and _close(self.value, part):
            return True  # the same for all rows
        candidates = self._candidates(part, len(index)) if self.places is None else self.places
        self.places = [
            (axis, blocks)
            for axis, blocks in candidates
            if _close(self._at(axis, blocks, index), part)
        ]
        return bool(self.places)

    def _candidates(self, part: Tensor, size: int) -> Iterator[tuple[int, int]]:
        for axis in range(min(part.dim(), self.value.dim())):
            each, rest = divmod(part.shape[axis], size)
            if rest == 0 and self.value.shape[axis] == each * self.rows:
                yield from ((axis, n) for n in range(1, each + 1) if each % n == 0)

    def _at(self, axis: int, blocks: int, index: Tensor) -> Tensor:
        split = self.value.unflatten(axis, (blocks, self.rows, -1))
        taken: Tensor = split.index_select(axis + 1, index.to(split.device))
        return taken.flatten(axis, axis + 2)
