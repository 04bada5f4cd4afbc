"""Weight space at chosen layers: one forward and one backward of the model, with its parameters live."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError
from bnaudit.measure.weight_space.precision import full_precision
from bnaudit.measure.weight_space.probe import WeightProbe
from bnaudit.records.values import Skipped
from bnaudit.tap.call import plain
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from bnaudit.measure.collect import Collected
    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.measure.weight_space.feeders import Feeder
    from bnaudit.progress import Progress
    from bnaudit.records.weights import WeightSpace

Key = tuple[str, int]

_Results = dict[Key, "WeightSpace | Skipped"]


def measure_weight_space(
    session: Session, collected: Collected, mode: str, keys: Sequence[Key], progress: Progress
) -> _Results:
    """Theorem 4.4 at each of the layers, on the first sample batch.

    Args:
        session: the model and its batches; call it inside `untouched`.
        collected: the first-order pass.
        mode: "batch"; with running statistics nothing is measured.
        keys: the layers.
        progress: told of each layer.
    """
    if mode != "batch":
        reason = Skipped("the theorem is about batch statistics (--mode batch)")
        return dict.fromkeys(keys, reason)
    records = {r.key: r for r in (collected.batches[0] if collected.batches else ())}
    results: _Results = {key: _obstacle(records.get(key)) or _PENDING for key in keys}
    gains = {key: _gain(records[key]) for key, result in results.items() if result is _PENDING}
    progress.stage("weight space", len(gains))
    probe = WeightProbe(gains, _Names(session).label, progress)
    failure = _run(session, probe) if gains else ""
    not_reached = Skipped(failure or "no gradient reaches this layer")
    return {
        key: probe.found.get(key, not_reached) if result is _PENDING else result
        for key, result in results.items()
    }


_PENDING = Skipped("")


def _obstacle(record: LayerRecord | None) -> Skipped | None:
    if record is None:
        return Skipped("the first batch does not reach this layer")
    if record.m == 1:
        return Skipped("one value per channel (m = 1): BatchNorm cannot be evaluated")
    if record.m == 2:
        return Skipped("two values per channel (m = 2): only leak survives the projection")
    return None if record.obstacle is None else Skipped(record.obstacle)


def _gain(record: LayerRecord) -> Tensor:
    """|D| = |gamma|/sigma with the statistics of the first batch."""
    if record.moments is None:
        return torch.zeros(record.channels, dtype=torch.float64)
    sigma = (record.moments.var + record.eps).sqrt()
    return (torch.ones_like(sigma) if record.gamma is None else record.gamma.abs()) / sigma


def _run(session: Session, probe: WeightProbe) -> str:
    """Forward and backward; returns why it failed, or nothing.

    The first-order pass has run the model already, with its parameters frozen: what fails here fails
    because they are not, and is no reason to give up on the audit.
    """
    execution, batch = session.execution, session.batches.items[0]
    replay = plain("batch")
    try:
        with (
            _differentiable(execution.module),
            full_precision(),
            tapped(session.placed.namer, probe, replay) as tap,
            torch.enable_grad(),
        ):
            tap.start()
            loss = execution.value(batch, 0)
            if not loss.requires_grad:
                return "no gradient flows from the model's output back to its weights"
            edges = probe.attach(loss)
            if edges:
                torch.autograd.grad(loss, edges, allow_unused=True)
    except (RunError, RuntimeError) as error:
        text = error.message if isinstance(error, RunError) else str(error)
        first = next(iter(text.splitlines()), "unknown error")
        return f"the weights cannot be differentiated: {first[:200]}"
    finally:
        probe.layers.clear()
    return ""


@contextmanager
def _differentiable(module: nn.Module) -> Iterator[None]:
    """Every floating-point parameter requires a gradient, and afterwards what did before."""
    flags = [
        (p, p.requires_grad)
        for p in module.parameters()
        if p.is_floating_point() and not p.is_inference()
    ]
    try:
        for p, _ in flags:
            p.requires_grad_(True)
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


class _Names:
    """Names of feeders: parameters are told by their address, as BatchNorm layers are."""

    def __init__(self, session: Session) -> None:
        self._names: dict[tuple[str, int, int], str] = {}
        labels = session.placed.loaded.labels
        for path, p in session.execution.module.named_parameters(remove_duplicate=False):
            prefix, _, own = path.rpartition(".")
            prefix = labels.get(prefix, prefix)
            self._names.setdefault(_address(p), f"{prefix}.{own}" if prefix else own)

    def label(self, feeder: Feeder) -> str:
        """As "Conv2d conv1.weight"; of a computed weight what it is computed from."""
        names = [self._names.get(_address(p), "an unnamed parameter") for p in feeder.leaves]
        if feeder.direct:
            return f"{feeder.kind} {names[0]}"
        origin = f"computed from {', '.join(names)}" if names else "computed by the model"
        return f"{feeder.kind} (weight {origin})"


def _address(tensor: Tensor) -> tuple[str, int, int]:
    return (str(tensor.device), tensor.data_ptr(), tensor.numel())
