"""Nothing in the model changes: flags are put back, and parameters and buffers compared."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

_BLOCK_BYTES = 32768


def _fingerprint(tensor: Tensor) -> tuple[int, int, int]:
    """Sums of the raw bits, plain and position-weighted: any single changed value shows.

    A copy of every parameter would cost as much memory as the gradients that are saved by
    freezing them.
    """
    raw = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = raw.numel() // _BLOCK_BYTES * _BLOCK_BYTES
    tail = torch.nn.functional.pad(raw[whole:], (0, whole + _BLOCK_BYTES - raw.numel()))
    rows = torch.cat(
        [t.view(torch.int64).view(-1, _BLOCK_BYTES // 8).sum(1) for t in (raw[:whole], tail)]
    )
    # Odd weights, wrapping arithmetic: blocks that trade places change the sum.
    weights = 2 * torch.arange(rows.numel(), device=rows.device) + 1
    return (raw.numel(), int(rows.sum()), int((rows * weights).sum()))


def _buffer_keeper(module: nn.Module) -> Callable[[], None]:
    """Puts the buffers back: those that were written into, and those that were replaced."""
    values = [(b, b.detach().clone()) for b in module.buffers()]
    registered = [
        (sub, dict(sub._buffers))
        for sub in module.modules()
        if not isinstance(sub, torch.jit.ScriptModule)
    ]

    def restore() -> None:
        for sub, own in registered:
            sub._buffers.update(own)
        with torch.no_grad():
            for buffer, saved in values:
                if not torch.equal(buffer, saved):
                    buffer.copy_(saved)

    return restore


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Freezes the model for measurement and gives it back exactly as it was.

    Inside, every submodule is in eval mode and no parameter requires a gradient (weight gradients
    are not needed for gradients at activations, and cost a third of the backward). On the way out,
    also after an exception, the training flags, the requires_grad flags, and any buffer that the model
    itself wrote or replaced (a traced `num_batches_tracked += 1`) are restored.

    Raises:
        RunError: the model changed one of its own parameters while it ran, or has parameters that
            autograd may not touch.
    """
    if any(p.is_inference() for p in module.parameters()):
        raise RunError(
            "the model's parameters were made under torch.inference_mode()",
            hint="build or load the model outside of it",
        )
    # A frozen TorchScript module has no such flag.
    training = [(s, s.training) for s in module.modules() if hasattr(s, "training")]
    parameters = list(module.named_parameters())
    requires_grad = [(p, p.requires_grad) for _, p in parameters]
    restore_buffers = _buffer_keeper(module)
    before = {name: _fingerprint(p) for name, p in parameters}
    try:
        for sub, _ in training:
            sub.training = False
        for _, p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for sub, flag in training:
            sub.training = flag
        for p, flag in requires_grad:
            p.requires_grad_(flag)
        restore_buffers()
    changed = [name for name, p in parameters if _fingerprint(p) != before[name]]
    if changed:
        raise RunError(
            f"the model changed its own parameter {changed[0]!r} while it ran",
            hint="bnaudit measures models that leave their parameters alone in a forward pass",
        )
