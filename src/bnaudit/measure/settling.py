"""The loss of an audit: what was asked for, what fits labels and output, or labels drawn from the model.

Labels are drawn where there are none and the output is recognised: y of row n, seeded by n, from what the
network as deployed (running statistics) takes for likely. The gradient of -ln p(y) is then that of the
network's own uncertainty, and E[g g'] its Fisher matrix; where the network is good, the labels are nearly
those that somebody would have given. They say nothing of whether it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import torch

from bnaudit.data.drawn import drawn, recognised
from bnaudit.data.head import Head
from bnaudit.data.loss import choose_loss, returned_loss
from bnaudit.data.losses.definition import class_axis_first
from bnaudit.data.outputs import floating, named_tensors, own_loss, primary
from bnaudit.data.signature import LABELS
from bnaudit.errors import BnauditError, UsageError
from bnaudit.losses import AUTO, LABEL_FREE, LOSSES, require_name
from bnaudit.tap.call import differentiable, normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.data.batch import Batch, Batches
    from bnaudit.data.drawn import Recognised
    from bnaudit.data.loss import Loss
    from bnaudit.measure.execution import Execution
    from bnaudit.options import AuditOptions
    from bnaudit.tap.call import BatchNormCall
    from bnaudit.tap.naming import Namer


@dataclass(frozen=True, slots=True)
class Settled:
    """A model with batches and the loss that was chosen for them.

    Attributes:
        execution: runs it.
        namer: names its layers.
        batches: what it is run on, with labels where there are any.
    """

    execution: Execution
    namer: Namer
    batches: Batches


def settled(session: Settled, options: AuditOptions, *, draw: bool) -> Settled:
    """The same with its loss.

    Args:
        session: in which no loss was chosen.
        options: loss, its options and the seed.
        draw: whether labels may be drawn from the model.

    Raises:
        UsageError: the loss is unknown, or does not fit; the output that was asked for is not there.
    """
    if isinstance(options.loss, str):
        require_name(options.loss)
    labels = _together(session)
    needed = isinstance(options.loss, str) or options.loss_output is not None
    output = _looked(session, options) if needed else None
    if options.loss == AUTO and labels is None:
        own = _own_loss(session, output)
        if own is not None:
            return own
        why = "no labels given"
        if draw and session.batches.info.source not in {"synthetic", "example"}:
            found = _recognised(session, output, AUTO)
            if not isinstance(found, str):
                return _with_drawn(session, options, found)
            why = f"no labels given, and none drawn from the model: {found}"
        loss = choose_loss(LABEL_FREE, None, options.seed, options.loss_options)
        return _with_loss(session, replace(loss, why=why), output, labels)
    if draw and labels is None and options.loss in _DRAWN:
        found = _recognised(session, output, str(options.loss))
        if isinstance(found, str):
            raise UsageError(
                f"the loss {options.loss} needs labels, and none can be drawn from the model: {found}",
                hint="pass --labels, or leave --loss out",
            )
        return _with_drawn(session, options, found)
    loss = choose_loss(options.loss, labels, options.seed, options.loss_options, output)
    return _with_loss(session, loss, output, labels)


_DRAWN = ("cross_entropy", "nll", "focal", "bce")
"""Losses that are -ln of a probability that the model gives, or nearly."""


def _together(session: Settled) -> Any:
    """The labels of all batches; those of the first where they are no arrays."""
    labels = [batch.labels for batch in session.batches.items]
    if not labels or any(part is None for part in labels):
        return None
    if all(isinstance(part, torch.Tensor) for part in labels):
        try:
            return torch.cat(labels)
        except RuntimeError:  # of several shapes: each batch is padded for itself
            return labels[0]
    return labels[0]


def _looked(session: Settled, options: AuditOptions) -> Any:
    """What the model returns for the first batch as deployed; None where it cannot be run so.

    A model that fails on its data says so when it is measured.
    """

    def handler(call: BatchNormCall) -> Tensor:
        return normalise(call, differentiable(call.x), "running")

    try:
        with tapped(session.namer, handler) as tap, torch.enable_grad():
            tap.start()
            return session.execution.scores(session.batches.items[0], 0)
    except UsageError:
        if options.loss_output is not None:
            raise
        return None
    except BnauditError:
        return None


def _own_loss(session: Settled, output: Any) -> Settled | None:
    """The loss that a model makes itself, of labels among its inputs or of the inputs alone."""
    takes = LABELS[0] in session.batches.names
    if output is None or own_loss(output, unasked=not takes) is None:
        return None
    head = Head("")
    if takes:
        batches = replace(session.batches, labels_from="the model's input labels")
        execution = replace(session.execution, loss=returned_loss(), head=head)
        return replace(session, batches=batches, execution=execution)
    loss = returned_loss("the model returns it")
    return replace(session, execution=replace(session.execution, loss=loss, head=head))


def _with_loss(session: Settled, loss: Loss, output: Any, labels: Any) -> Settled:
    named = (
        loss.name if loss.name in (*LOSSES, LABEL_FREE) and loss.why != "given by the user" else ""
    )
    axis = 1
    scores = {} if output is None else floating(named_tensors(output))
    if scores and loss.labels_are == "classes" and isinstance(labels, torch.Tensor):
        y = primary(scores)[1]
        moved = class_axis_first(y, labels[: len(y)])
        axis = 1 if moved is y else y.dim() - 1
    head = Head(named, loss.labels_are, axis)
    return replace(session, execution=replace(session.execution, loss=loss, head=head))


def _recognised(session: Settled, output: Any, loss: str) -> Recognised | str:
    if output is None:
        return "it cannot be run with running statistics"
    rest = session.batches.items[1:]

    def more() -> Any:
        return (_deployed(session, batch, i) for i, batch in enumerate(rest, 1))

    return recognised(output, session.batches.items[0].inputs, loss, more)


def _deployed(session: Settled, batch: Batch, index: int) -> Any:
    def handler(call: BatchNormCall) -> Tensor:
        return normalise(call, call.x, "running")

    with tapped(session.namer, handler) as tap, torch.no_grad():
        tap.start()
        return session.execution.scores(batch, index)


def _with_drawn(session: Settled, options: AuditOptions, found: Recognised) -> Settled:
    batches = session.batches
    rows = batches.items[0].rows  # every batch has as many

    def label(batch: Batch, index: int) -> Tensor:
        y = primary(floating(named_tensors(_deployed(session, batch, index))))[1]
        return drawn(y, found, options.seed, index * rows)

    items = Labelled(batches.items, label)
    batches = replace(
        batches,
        items=tuple(items) if isinstance(batches.items, tuple) else items,
        further=Labelled(batches.further, label, len(items)),
        labels_from=f"drawn from the model's {found.of} (seed {options.seed})",
    )
    labelled = replace(session, batches=batches)
    loss = choose_loss(found.loss, _together(labelled), options.seed, options.loss_options)
    loss = replace(loss, why=found.why, label_free=True, labels_are=found.labels_are)
    return _with_loss(labelled, loss, None, None)


class Labelled(Sequence["Batch"]):
    """Batches whose labels are drawn when they are asked for, once: of many further ones few are run.

    Args:
        batches: without labels.
        label: draws those of a batch, by its number.
        first: number of the first batch.
    """

    def __init__(
        self, batches: Sequence[Batch], label: Callable[[Batch, int], Tensor], first: int = 0
    ) -> None:
        self.batches, self.label, self.first = batches, label, first
        self.labels: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.batches)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> Labelled: ...

    def __getitem__(self, index: int | slice) -> Batch | Labelled:
        if isinstance(index, slice):
            start, _, _ = index.indices(len(self))
            return Labelled(self.batches[index], self.label, self.first + start)
        batch = self.batches[index]
        if index not in self.labels:
            self.labels[index] = self.label(batch, self.first + index)
        return replace(batch, labels=self.labels[index])
