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

from typing import TYPE_CHECKING, NamedTuple

import torch

from bnaudit.data.batch import Batch
from bnaudit.data.outputs import floating, named_tensors
from bnaudit.data.room import free_memory
from bnaudit.errors import RunError, UsageError
from bnaudit.tap.call import normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from bnaudit.measure.execution import Execution
    from bnaudit.tap.call import BatchNormCall
    from bnaudit.tap.naming import Namer

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Of a channel's largest entry. Kernels that sum in another order for another size leave 1e-6 in float32;
a network that amplifies it is compared in float64."""

_LEAST = 1e-4
"""Of all channels' largest entry: what is left of large ones that cancel has their rounding."""

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
        UsageError: there is no memory for that.
    """
    rows = batch.rows
    taken = size * sum(t.nbytes // max(rows, 1) for t in batch.inputs)
    if taken > free_memory(lifted.execution.device) // 4:
        raise UsageError(
            f"the model was exported at batch size {size}, which takes {taken / 1e9:.0f} GB for inputs alone",
            hint="export it with a dynamic batch axis",
        )
    first = _values(original, resized(batch, size))
    try:
        alone = first if lifted is original else _values(lifted, resized(batch, size))
        if alone.keys() != first.keys() or not all(
            _close(value, first[key], _limit(first[key])) for key, value in alone.items()
        ):
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
    return _taken(batch, torch.arange(size) % batch.rows)


def _taken(batch: Batch, index: Tensor) -> Batch:
    """Some rows; an input of another length than the first has none (a state whose first axis is layers)."""
    rows = batch.rows
    return Batch(tuple(t[index] if t.dim() and t.shape[0] == rows else t for t in batch.inputs))


def _values(model: Runnable, batch: Batch) -> dict[Hashable, Tensor]:
    """The input of every BatchNorm call, and every output."""
    found: dict[Hashable, Tensor] = {}

    def keep(call: BatchNormCall) -> Tensor:
        found[call.key] = call.x
        return normalise(call, call.x, "running")

    with tapped(model.namer, keep) as tap, torch.no_grad():
        tap.start()
        model.execution.state.restore()
        outputs = floating(named_tensors(model.execution.outputs(batch)))
    return found | outputs


def _limit(value: Tensor) -> Tensor:
    """How far entries may be off: (1, C, 1, ...), or () of a value without channels."""
    size = value.abs().nan_to_num_(0.0, 0.0)
    largest = size.max() if size.numel() else size.new_zeros(())
    if size.dim() > 1 and size.numel():
        others = [axis for axis in range(size.dim()) if axis != 1]
        largest = size.amax(others, keepdim=True).clamp(min=_LEAST * float(largest))
    return _TOLERANCE.get(value.dtype, 1e-5) * largest


def _close(found: Tensor, wanted: Tensor, limit: Tensor) -> bool:
    """Equal but for rounding; NaN and infinite values are equal to themselves."""
    if found.shape != wanted.shape:
        return False
    near = (found - wanted).abs_() <= limit
    if bool(near.all()):
        return True
    return bool((near | (found == wanted) | (found.isnan() & wanted.isnan())).all())


class _Rows:
    """A value of the whole batch, to be compared with that of some of its rows.

    A network may move the batch to any axis and merge it with others there: an axis of blocks, rows and
    whatever is left of it. The order of rows is no matter of BatchNorm, so any place at which all parts
    are found again will do.
    """

    def __init__(self, value: Tensor, rows: int) -> None:
        self.value = value
        self.rows = rows
        self.limit = _limit(value)
        self.places: list[tuple[int, int]] | None = None
        """Axis and blocks at which all parts so far were found; None before the first."""

    def hold(self, part: Tensor, index: Tensor) -> bool:
        """Whether these rows of the batch have the value `part`."""
        if part.shape == self.value.shape and _close(self.value, part, self.limit):
            return True  # the same for all rows
        if self.places is None:
            self.places = []
            for axis in range(min(part.dim(), self.value.dim())):
                each, rest = divmod(part.shape[axis], len(index))
                if rest == 0 and self.value.shape[axis] == each * self.rows:
                    self.places += [(axis, n) for n in range(1, each + 1) if each % n == 0]
        self.places = [p for p in self.places if self._is_at(*p, part, index)]
        return bool(self.places)

    def _is_at(self, axis: int, blocks: int, part: Tensor, index: Tensor) -> bool:
        split = self.value.unflatten(axis, (blocks, self.rows, -1))
        found = split.index_select(axis + 1, index.to(split.device)).flatten(axis, axis + 2)
        return _close(found, part, self.limit.max() if axis == 1 else self.limit)
