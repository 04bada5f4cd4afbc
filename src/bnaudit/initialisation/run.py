"""The run of the trained network: which weights feed BatchNorm, and whether their scale matters.

What feeds a BatchNorm is found as for the minimax bound (`measure.weight_space.feeders`). A weight is scale
invariant only if nothing but BatchNorm reads what it makes, a skip connection for one; so every node on
the way must have no other reader.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import BnauditError, RunError
from bnaudit.initialisation.invariance import Call, Group, Recorder, scale_test
from bnaudit.load.weights.model import Layout
from bnaudit.measure.session import open_session, place_model
from bnaudit.measure.weight_space.feeders import Feeder, find_feeder
from bnaudit.measure.weight_space.graph import IDENTITY, SHAPE, Node, leaf, operation, parents
from bnaudit.records.initialisation import InitRun, Unfed
from bnaudit.records.values import Skipped
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnaudit.load.model import LoadedModel
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


@dataclass(slots=True)
class _Readers:
    """The autograd graph of one loss, from the makers of values to their readers.

    Attributes:
        of: node -> the nodes that read what it made; keeps all nodes alive, so that the same node is
            the same object.
    """

    of: dict[Node, list[Node]] = field(default_factory=dict)

    @classmethod
    def behind(cls, loss: Tensor) -> _Readers:
        """Walks the graph once."""
        found = cls({loss.grad_fn: []})
        waiting: list[Node] = [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            for child in parents(node):
                if child not in found.of:
                    found.of[child] = []
                    waiting.append(child)
                found.of[child].append(node)
        return found

    def alone(self, feeder: Feeder, batch_norms: set[Node]) -> bool:
        """Whether nothing but BatchNorm reads a feeder's output, on the whole way."""
        above = batch_norms
        for node in (*feeder.path, feeder.node):
            if not all(reader in above for reader in self.of.get(node, [])):
                return False
            above = {node}
        return True

    def uses(self, node: Node) -> int:
        """How many operations read a value, rearrangements of it aside."""
        return sum(
            self.uses(reader) if operation(reader) in IDENTITY | SHAPE else 1
            for reader in self.of[node]
        )


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
        weights = {
            name: p
            for name, p in session.placed.module.named_parameters()
            if p.is_floating_point() and p.dim() > 1
        }
        for p in weights.values():
            p.requires_grad_(True)
        progress.stage("differentiating")
        run = _differentiate(session, weights, weight_of)
        loss = session.execution.loss
        info = InitRun(
            device=str(session.placed.device),
            seed=options.seed,
            data=session.batches.info,
            loss=loss.name,
            loss_why="; ".join(filter(None, (loss.why, session.execution.head.why()))),
            labels=session.batches.labels_from,
            value=run.loss,
            unfed=tuple(run.unfed),
            versions={"python": platform.python_version(), "torch": torch.__version__},
            notes=session.notes,
        )
        seen = Seen(info, executed=frozenset(c.name for c in run.calls))
        progress.stage("scaling weights", len(run.fed))
        for name, found in run.fed.items():
            _test(name, found, seen, session, run)
            progress.advance()
        return seen


@dataclass(slots=True)
class _Run:
    """One batch forward and backward.

    Attributes:
        loss: its value.
        calls: of BatchNorm.
        gradients: id of a weight -> dL/dW.
        uses: id of a weight -> how many operations read it.
        alone: id of a feeder -> whether nothing but BatchNorm reads its output.
        fed: weight -> what it feeds.
        unfed: BatchNorms before which no weight of their own stands.
    """

    loss: float
    calls: list[Call]
    gradients: dict[int, Tensor | None] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    alone: dict[int, bool] = field(default_factory=dict)
    fed: dict[str, _Fed] = field(default_factory=dict)
    unfed: list[Unfed] = field(default_factory=list)


def _differentiate(
    session: Session, weights: Mapping[str, Tensor], weight_of: Mapping[str, str]
) -> _Run:
    recorder = Recorder()
    batch = session.batches.items[0]
    with tapped(session.placed.namer, recorder) as tap, torch.enable_grad():
        tap.start()
        loss = session.execution.value(batch, 0, look=True)
        if (
            session.execution.head.kinds
        ):  # found by the first pass, and where all others take the loss
            recorder.calls.clear()
            tap.start()
            loss = session.execution.value(batch, 0)
        if not recorder.calls:
            raise RunError("no BatchNorm layer was executed")
        if not bool(torch.isfinite(loss.detach())):
            raise RunError(f"the loss is {float(loss.detach())}")
        if not loss.requires_grad:
            raise RunError("no gradient flows from the output back to any weight")
        run = _Run(float(loss.detach()), recorder.calls)
        _find_feeders(run, loss, {id(p): name for name, p in weights.items()}, weight_of)
        leaves = [*weights.values(), *(c.gamma for c in run.calls)]
        try:
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
        except RuntimeError as error:
            first = next(iter(str(error).splitlines()), "unknown error")
            raise RunError(f"the network cannot be differentiated: {first[:200]}") from error
    for call, gradient in zip(run.calls, found[len(weights) :], strict=True):
        call.gamma_grad = gradient
    for p, gradient in zip(weights.values(), found, strict=False):
        run.gradients[id(p)] = gradient
    return run


def _find_feeders(
    run: _Run, loss: Tensor, names: Mapping[int, str], weight_of: Mapping[str, str]
) -> None:
    """Fills in what the graph tells; before backward, which frees what the search reads."""
    readers = _Readers.behind(loss)
    nodes = {call.node for call in run.calls}
    for call in run.calls:
        if call.node is None:
            run.unfed.append(Unfed(call.name, "no gradient flows through it"))
            continue
        found = find_feeder(call.node.next_functions[0][0])
        if isinstance(found, Skipped):
            run.unfed.append(Unfed(call.name, found.reason))
            continue
        if not found.direct:
            run.unfed.append(Unfed(call.name, "its weight is computed while the network runs"))
            continue
        own = None if weight_of else names.get(id(found.leaves[0]))
        name = weight_of.get(call.name, own)
        if name is None:
            run.unfed.append(Unfed(call.name, "its weight cannot be found in the file"))
            continue
        run.alone[id(found)] = readers.alone(found, nodes)
        entry = run.fed.setdefault(name, _Fed())
        entry.feeders.append(found)
        entry.calls.append(call)
    for node in readers.of:
        if leaf(node) is not None:
            run.uses[id(leaf(node))] = readers.uses(node)


def _layout(feeder: Feeder) -> Layout:
    """Where a weight has its output channels: along the axis that they arrive at, laid out anew."""
    if feeder.kind != "Linear":
        groups = int(feeder.node._saved_groups)
        return Layout(1, groups) if "Transpose" in feeder.kind else Layout(0)
    node, flips = feeder.node.next_functions[feeder.slot][0], 0
    while leaf(node) is None:
        flips += operation(node) in {"T", "Transpose", "Permute"}
        node = node.next_functions[0][0]
    # x @ W has W (in, out), W @ x has it (out, in); F.linear's own node means the latter.
    first = feeder.transposed or operation(feeder.node) == "Linear"
    return Layout((0 if first else 1) ^ (flips % 2))


def _test(name: str, found: _Fed, seen: Seen, session: Session, run: _Run) -> None:
    first = found.feeders[0]
    layout = seen.layouts[name] = _layout(first)
    parameters = list({id(f.leaves[0]): f.leaves[0] for f in found.feeders}.values())
    if not all(run.alone[id(f)] for f in found.feeders):
        seen.tests[name] = Skipped("its output also goes where no BatchNorm stands")
        return
    if sum(run.uses[id(p)] for p in parameters) > len(found.feeders):
        seen.tests[name] = Skipped("it is also used where no BatchNorm follows")
        return
    seen.feeds[name] = found.calls[0].name
    if any(c.m == 1 for c in found.calls):
        seen.tests[name] = Skipped(_ONE_VALUE)
        return
    group = Group(parameters, [run.gradients[id(p)] for p in parameters], found.calls, layout)
    batch = session.batches.items[0]
    try:
        seen.tests[name] = scale_test(
            group, session.execution, session.placed.namer, batch, run.loss
        )
    except BnauditError as error:
        seen.tests[name] = Skipped(error.message)
