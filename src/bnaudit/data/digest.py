"""What was read, as one number: equal data has equal digests, whatever shuffled it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from bnaudit.data.rows import raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.data.batch import Batch


def digest(names: Sequence[str], batches: Iterable[Batch]) -> str:
    """SHA-256 over all batches in their order: names, types, shapes and bytes of inputs and labels.

    Args:
        names: of the inputs.
        batches: that are run.
    """
    found = hashlib.sha256()
    for batch in batches:
        labels = batch.labels if isinstance(batch.labels, torch.Tensor) else None
        for name, tensor in zip((*names, "labels"), (*batch.inputs, labels), strict=True):
            if tensor is None:
                continue
            found.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            if flat.numel():
                found.update(raw(flat))
    return f"sha256:{found.hexdigest()}"
