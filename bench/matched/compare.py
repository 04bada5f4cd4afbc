"""Audits of a network on real rows, on noise and on matched batches, beside each other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.load import load
from bnaudit.matching.run import matched
from bnaudit.measure.session import open_session, place_model
from bnaudit.options import AuditOptions
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Spread
from bnaudit.tap.dispatch import whole_audit
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.matched.subjects import Subject
    from bnaudit.records.matching import Matching, Mismatch

Numbers = dict[str, tuple[float, float]]
"""Layer -> |g|/|G| and g'Hg/|g|^2, each the median over batches that are audited one by one."""


@dataclass(slots=True)
class Curve:
    """Notes each step of the optimisation as a progress bar would show it."""

    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def stage(self, name: str, total: int | None = None) -> None:
        """See `bnaudit.progress.Progress`."""

    def advance(self, steps: float = 1) -> None:
        """See `bnaudit.progress.Progress`."""

    def expect(self, seconds: float, shorter: str) -> None:
        """See `bnaudit.progress.Progress`."""

    def say(self, state: str) -> None:
        """A step has been taken."""
        self.seconds.append(time.process_time())
        self.values.append(float(state.removeprefix("mismatch ")))


@dataclass(frozen=True, slots=True)
class Row:
    """One network.

    Attributes:
        subject: which.
        rows: in a batch.
        real, drawn, noise, matched: the numbers on real rows, on the same with drawn labels, on noise, on
            matched batches.
        left: layer -> what is left there.
        matching: of the optimisation.
        train_steps: what the optimisation of one batch took, in training steps on as many rows; processor
            time of one thread, in both.
        most_of_it: the same up to 90 % of the fall of the objective.
    """

    subject: Subject
    rows: int
    real: Numbers
    drawn: Numbers
    noise: Numbers
    matched: Numbers
    left: Mapping[str, Mismatch]
    matching: Matching
    train_steps: float
    most_of_it: float

    @property
    def less_drift(self) -> float:
        """How many times less of it than noise, in the middle layer: of means or variances, the smaller."""
        middle: dict[str, float] = {
            name: float(median(getattr(m, name) for m in self.left.values()))
            for name in ("mean", "variance", "mean_before", "variance_before")
        }
        return min(
            middle["mean_before"] / middle["mean"], middle["variance_before"] / middle["variance"]
        )


def labels_of(subject: Subject, x: Tensor, seed: int) -> Tensor:
    """Drawn from what the network says with its running statistics."""
    if subject.target == "input":
        return x
    with torch.no_grad():
        likely = subject.net(x).softmax(1)
    return torch.multinomial(likely, 1, generator=torch.Generator().manual_seed(seed))[:, 0]


def numbers(subject: Subject, batches: Sequence[tuple[Tensor, Tensor]]) -> Numbers:
    """What audits of the batches measure."""
    found: dict[str, list[tuple[float, float]]] = {}
    for x, labels in batches:
        report = bnaudit.audit(
            subject.net,
            data=x,
            labels=labels,
            batches=1,
            batch_size=len(x),
            metrics=("first_order", "second_order"),
        )
        for layer in report.layers:
            order, curved = layer.first_order, getattr(layer.second_order, "rayleigh", None)
            if isinstance(order, FirstOrder) and isinstance(order.measured, Spread):
                rho = curved.median if isinstance(curved, Spread) else float("nan")
                found.setdefault(layer.label, []).append((order.measured.median, rho))
    return {
        name: (median(v for v, _ in values), median(v for _, v in values))
        for name, values in found.items()
    }


def compared(subject: Subject) -> Row:
    """All of one network."""
    rows = subject.rows
    count = min(subject.batches, len(subject.x) // rows)
    starts = range(0, count * rows, rows)
    real = [(subject.x[i : i + rows], subject.y[i : i + rows]) for i in starts]
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(x.shape, generator=generator) for x, _ in real]
    settings = AuditOptions(
        data="matched", batches=count, input_shapes={"": tuple(real[0][0].shape)}
    )
    curve = Curve()
    with whole_audit():
        placed = place_model(load(subject.net), settings)
        with untouched(placed.module):
            session = open_session(placed, settings)
            start = time.process_time()
            session = matched(session, settings, curve)
    made = [batch.inputs[0].float() for batch in session.batches.items]
    matching: Any = session.batches.info.matching
    one = curve.values[: matching.steps[0]]
    goal = one[0] - 0.9 * (one[0] - min(one))
    reached = next(i for i, value in enumerate(one) if value <= goal)
    step = train_step(subject, *real[0])
    return Row(
        subject,
        rows,
        numbers(subject, real),
        numbers(subject, [(x, labels_of(subject, x, i)) for i, (x, _) in enumerate(real)]),
        numbers(subject, [(x, labels_of(subject, x, i)) for i, x in enumerate(noise)]),
        numbers(subject, [(x, labels_of(subject, x, i)) for i, x in enumerate(made)]),
        session.mismatch or {},
        matching,
        (curve.seconds[matching.steps[0] - 1] - start) / step,
        (curve.seconds[reached] - start) / step,
    )


def train_step(subject: Subject, x: Tensor, labels: Tensor) -> float:
    """Seconds of a step of SGD on one batch, the least of five."""
    net: nn.Module = subject.copy().train().requires_grad_(True)
    optimiser = torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9)
    taken = []
    for _ in range(5):
        start = time.process_time()
        optimiser.zero_grad()
        y = net(x)
        loss = (
            nn.functional.mse_loss(y, x)
            if subject.target == "input"
            else nn.functional.cross_entropy(y, labels)
        )
        loss.backward()
        optimiser.step()
        taken.append(time.process_time() - start)
    return min(taken)
