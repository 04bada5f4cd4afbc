"""The run of the trained network: which weights feed BatchNorm, and whether their scale matters."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import BnauditError, RunError
from bnaudit.initialisation.feeders import Feeder, Graph
from bnaudit.initialisation.invariance import Call, Group, Recorder, scale_test
from bnaudit.measure.session import open_session, place_model
from bnaudit.records.initialisation import InitRun, Unfed
from bnaudit.records.values import Skipped
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnaudit.load.model import LoadedModel
    from bnaudit.load.weights.model import Layout
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.initialisation import ScaleTest

_ONE_VALUE = "one value per channel (m = 1): BatchNorm cannot be evaluated"


@dataclass(slots=True)
class Seen:
    """What the run found, by the weights' names in the file.

    Attributes:
        info: for the report.
        feeds: weight -> the BatchNorm it feeds, alone.
        layouts: weight -> where its output channels are.
        executed: names of the BatchNorm layers that ran.
        tests: weight -> its scale test, or why there is none.
    """

    info: InitRun
    feeds: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    executed: frozenset[str] = frozenset()
    tests: dict[str, ScaleTest | Skipped] = field(default_factory=dict)


@dataclass(slots=True)
class _Fed:
    """A weight with all BatchNorm calls that it feeds."""

    feeders: list[Feeder] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def run_trained(
    loaded: LoadedModel,
    options: AuditOptions,
    weight_of: Mapping[str, str],
    progress: Progress,
) -> Seen:
    """Runs one batch forward and backward, then four times forward for each weight before BatchNorm.

    Args:
        loaded: the trained network.
        options: data, loss, device and seed; always one batch, in float64.
        weight_of: BatchNorm -> name of its weight, for formats whose loader renames parameters.
        progress: told of each weight.

    Raises:
        UsageError, DataError: the options do not fit the network.
        RunError: it cannot be run or differentiated.
    """
    placed = place_model(loaded, replace(options, dtype="float64", batches=1, mode="batch"))
    with untouched(placed.module):
        session = open_session(placed, replace(options, dtype="float64", batches=1))
        return _measure(session, weight_of, options, progress)


def _measure(
    session: Session, weight_of: Mapping[str, str], options: AuditOptions, progress: Progress
) -> Seen:
    weights = {
        name: p
        for name, p in session.placed.module.named_parameters()
        if p.is_floating_point() and p.dim() > 1
    }
    for p in weights.values():
        p.requires_grad_(True)
    progress.stage("differentiating")
    calls, loss, gradients, graph = _differentiate(session, list(weights.values()))
    names = {id(p): name for name, p in weights.items()}
    fed, unfed = _feeders(calls, graph, names, weight_of)
    seen = Seen(_info(session, options, loss, unfed), executed=frozenset(c.name for c in calls))
    uses = graph.uses(weights.values())
    progress.stage("scaling weights", len(fed))
    for name, found in fed.items():
        _test(name, found, seen, session, uses, gradients, loss)
        progress.advance()
    return seen


def _differentiate(
    session: Session, weights: list[Tensor]
) -> tuple[list[Call], float, dict[int, Tensor | None], Graph]:
    recorder = Recorder()
    batch = session.batches.items[0]
    with tapped(session.placed.namer, recorder) as tap, torch.enable_grad():
        tap.start()
        loss = session.execution.value(batch, 0)
        if not recorder.calls:
            raise RunError("no BatchNorm layer was executed")
        if not bool(torch.isfinite(loss.detach())):
            raise RunError(f"the loss is {float(loss.detach())}")
        if not loss.requires_grad:
            raise RunError("no gradient flows from the output back to any weight")
        graph = Graph.of(loss)
        leaves = [*weights, *(c.gamma for c in recorder.calls)]
        try:
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
        except RuntimeError as error:
            first = next(iter(str(error).splitlines()), "unknown error")
            raise RunError(f"the network cannot be differentiated: {first[:200]}") from error
    for call, gradient in zip(recorder.calls, found[len(weights) :], strict=True):
        call.gamma_grad = gradient
    gradients: dict[int, Tensor | None] = {
        id(p): g for p, g in zip(weights, found[: len(weights)], strict=True)
    }
    return recorder.calls, float(loss.detach()), gradients, graph


def _feeders(
    calls: list[Call], graph: Graph, names: Mapping[int, str], weight_of: Mapping[str, str]
) -> tuple[dict[str, _Fed], list[Unfed]]:
    """Weight -> what it feeds, and the calls without a weight of their own."""
    fed: dict[str, _Fed] = {}
    unfed: list[Unfed] = []
    nodes = {call.node for call in calls}
    for call in calls:
        found = (
            "no gradient flows through it" if call.node is None else graph.feeder(call.node, nodes)
        )
        if isinstance(found, str):
            unfed.append(Unfed(call.name, found))
            continue
        own = None if weight_of else names.get(id(found.parameter))
        name = weight_of.get(call.name, own)
        if name is None:
            unfed.append(Unfed(call.name, "its weight cannot be found in the file"))
            continue
        entry = fed.setdefault(name, _Fed())
        entry.feeders.append(found)
        entry.calls.append(call)
    return fed, unfed


def _test(
    name: str,
    found: _Fed,
    seen: Seen,
    session: Session,
    uses: Mapping[int, int],
    gradients: Mapping[int, Tensor | None],
    loss: float,
) -> None:
    first = found.feeders[0]
    seen.layouts[name] = first.layout
    parameters = list({id(f.parameter): f.parameter for f in found.feeders}.values())
    if not all(f.alone for f in found.feeders):
        seen.tests[name] = Skipped("its output also goes where no BatchNorm stands")
        return
    if sum(uses[id(p)] for p in parameters) > len(found.feeders):
        seen.tests[name] = Skipped("it is also used where no BatchNorm follows")
        return
    seen.feeds[name] = found.calls[0].name
    if any(c.m == 1 for c in found.calls):
        seen.tests[name] = Skipped(_ONE_VALUE)
        return
    group = Group(parameters, [gradients[id(p)] for p in parameters], found.calls, first.layout)
    batch = session.batches.items[0]
    try:
        seen.tests[name] = scale_test(group, session.execution, session.placed.namer, batch, loss)
    except BnauditError as error:
        seen.tests[name] = Skipped(error.message)


def _info(session: Session, options: AuditOptions, value: float, unfed: list[Unfed]) -> InitRun:
    loss = session.execution.loss
    return InitRun(
        device=str(session.placed.device),
        seed=options.seed,
        data=session.batches.info,
        loss=loss.name,
        loss_why=loss.why,
        labels=session.batches.labels_from,
        value=value,
        unfed=tuple(unfed),
        versions={"python": platform.python_version(), "torch": torch.__version__},
        notes=session.notes,
    )
