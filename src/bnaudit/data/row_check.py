"""Whether a model exported at one batch size may be run at another.

The rewrite that frees the batch axis can be wrong where a graph mixes rows (a reshape that folds the
batch into another axis, attention exported with a static batch). The test is what independence of
rows means: in inference mode, row 0 of a batch equals the run of that row alone.
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
_ROWS = 2


def rows_independent(execution: Execution, namer: Namer, batch: Batch, size: int) -> bool:
    """Whether the first `size` rows of twice as many give what they give alone.

    Args:
        execution: the model, its batch axis freed.
        namer: of its layers.
        batch: at least 2 * size rows.
        size: the exported batch size.
    """
    alone = _outputs(execution, namer, _head(batch, size))
    try:
        together = _outputs(execution, namer, _head(batch, _ROWS * size))
    except RunError:
        return False
    if alone.keys() != together.keys():
        return False
    return all(_same_rows(a, together[k], size) for k, a in alone.items())


def _head(batch: Batch, rows: int) -> Batch:
    return Batch(tuple(t if t.dim() == 0 else t[:rows] for t in batch.inputs))


def _outputs(execution: Execution, namer: Namer, batch: Batch) -> dict[str, Tensor]:
    with tapped(namer, plain("running")) as tap, torch.no_grad():
        tap.start()
        return floating(named_tensors(execution.outputs(batch)))


def _same_rows(alone: Tensor, together: Tensor, size: int) -> bool:
    if together.dim() == 0 or together.shape[0] != _ROWS * alone.shape[0]:
        return False
    rows = together[: alone.shape[0]]
    if rows.shape != alone.shape or size < 1:
        return False
    scale = float(alone.abs().max()) or 1.0
    return float((rows - alone).abs().max()) <= _TOLERANCE.get(alone.dtype, 5e-2) * scale
