"""What was read, as one number: equal data has equal digests, whatever shuffled it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.rows import raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch


def digest(names: Sequence[str], batches: Iterable[Batch]) -> str:
    """SHA-256 over all batches in their order: names, types, shapes and bytes of inputs and labels.

    Args:
        names: of the inputs.
        batches: that are run.
    """
    found = hashlib.sha256()
    for batch in batches:
        labels = [("labels", tensor) for tensor in _inside(batch.labels)]
        for name, tensor in (*zip(names, batch.inputs, strict=True), *labels):
            found.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            if flat.numel():
                found.update(raw(flat))
    return f"sha256:{found.hexdigest()}"


def _inside(labels: Any) -> Iterator[Tensor]:
    """The tensors of labels of any structure, in their order."""
    if isinstance(labels, torch.Tensor):
        yield labels
    elif isinstance(labels, (Mapping, list, tuple)):
        for part in labels.values() if isinstance(labels, Mapping) else labels:
            yield from _inside(part)
