"""Full float32 on CUDA: with TF32, which convolutions use by default, every product has ten bits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def full_precision() -> Iterator[None]:
    """Switches TF32 off and puts the flags back.

    Flags that cannot be read were set operator by operator through torch's newer interface: they are
    what the user wants, and stay.
    """
    owners: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before: list[tuple[Any, bool]] = []
    try:
        for owner in owners:
            try:
                before.append((owner, bool(owner.allow_tf32)))
            except RuntimeError:
                continue
            owner.allow_tf32 = False
        yield
    finally:
        for owner, flag in before:
            owner.allow_tf32 = flag
