"""Whether a model exported at one batch size may be run at another.

The rewrite that frees the batch axis can be wrong where a graph mixes rows (a reshape that folds the
batch into another axis, attention exported with a static batch). The test is what independence of
rows means: in inference mode, a row gives the same whatever the size of the batch it is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import Batch
from bnaudit.data.outputs import floating, named_tensors
from bnaudit.errors import RunError
from bnaudit.tap.call import plain
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.execution import Execution
    from bnaudit.tap.naming import Namer

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2}


def rows_independent(execution: Execution, namer: Namer, batch: Batch, size: int) -> bool:
    """Whether rows give in this batch what they give in a batch of the exported size.

    Args:
        execution: the model, its batch axis freed.
        namer: of its layers.
        batch: the batch to be run, of any size.
        size: the exported batch size.
    """
    rows = next((t.shape[0] for t in batch.inputs if t.dim()), 1)
    try:
        together = _outputs(execution, namer, batch)
    except RunError:
        return False
    exported = _outputs(execution, namer, resized(batch, size))
    if exported.keys() != together.keys():
        return False
    return all(_same_rows(e, together[k], size, rows) for k, e in exported.items())


def resized(batch: Batch, size: int) -> Batch:
    """The first `size` rows, beginning again where there are fewer.

    An input of another length than the first one has no rows (a state whose first axis are layers).
    """
    rows = next((t.shape[0] for t in batch.inputs if t.dim()), 1)

    def take(t: Tensor) -> Tensor:
        return t[torch.arange(size) % rows] if t.dim() and t.shape[0] == rows else t

    return Batch(tuple(take(t) for t in batch.inputs))


def _outputs(execution: Execution, namer: Namer, batch: Batch) -> dict[str, Tensor]:
    with tapped(namer, plain("running")) as tap, torch.no_grad():
        tap.start()
        execution.state.restore()
        return floating(named_tensors(execution.outputs(batch)))


def _same_rows(exported: Tensor, together: Tensor, size: int, rows: int) -> bool:
    """Compares the rows both have; an output may have several rows a sample."""
    if not exported.dim() or not together.dim() or exported.shape[1:] != together.shape[1:]:
        return False
    if exported.shape[0] % size or together.shape[0] * size != exported.shape[0] * rows:
        return False
    shared = min(size, rows) * (exported.shape[0] // size)
    a, b = exported[:shared], together[:shared]
    scale = float(a.abs().max()) or 1.0
    return float((a - b).abs().max()) <= _TOLERANCE.get(a.dtype, 5e-2) * scale
