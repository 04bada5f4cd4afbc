"""The batch that a file brings along: torch.export keeps the inputs that a program was exported with.

Authors export with real samples, with random numbers or with zeros, and the file does not say which:
as with synthetic batches, nothing that compares with training data is judged on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.data.batch import Batch, Batches
from bnaudit.records.run import DataInfo

if TYPE_CHECKING:
    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions


def brings_its_own(model: LoadedModel, options: AuditOptions) -> bool:
    """Whether the model has a batch of the size and number that the options ask for."""
    if model.example is None or options.input_shapes or options.batches not in {None, 1}:
        return False
    return options.batch_size in {None, _rows(model)}


def example_batches(model: LoadedModel) -> Batches:
    """The one batch, as it was saved.

    Args:
        model: one that brings a batch.
    """
    example = model.example or {}
    arrays = {s.name: example[s.name] for s in model.inputs if s.name in example}
    batch = Batch(tuple(arrays.values()))
    return Batches((batch,), DataInfo("example", (), 1, _rows(model)), tuple(arrays))


def _rows(model: LoadedModel) -> int:
    """The first dimension of the first input that has one."""
    tensors = (model.example or {}).values()
    return next((int(t.shape[0]) for t in tensors if t.dim()), 1)
