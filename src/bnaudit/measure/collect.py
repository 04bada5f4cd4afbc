"""The first-order pass: every batch forward and backward once, every layer's moments on the way."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.head import final_activation
from bnaudit.data.loss import outputs_of
from bnaudit.data.outputs import floating, named_tensors, primary
from bnaudit.errors import BnauditError, RunError, UsageError, first_line
from bnaudit.measure.apart import tell_apart
from bnaudit.measure.moments import Moments, channel_moments
from bnaudit.measure.rows import Rows, rows_of
from bnaudit.measure.sweep.record import Recorded, Recording
from bnaudit.measure.theory import FirstOrderChannels, first_order
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, differentiable, normalise, walk
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.naming import WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.execution import Execution
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.tap.dispatch import TapLog
    from bnaudit.tap.naming import Namer

Key = tuple[str, int]


Found = dict[str, Any]
"""What a metric gives: a field of `LayerReport` -> call -> record, or one of `Report` -> its value."""

BATCH_ONLY = Skipped("the theorem is about batch statistics (--mode batch)")


@dataclass(frozen=True, slots=True)
class Selection:
    """A shell-style pattern of layer names; None selects every layer."""

    pattern: str | None = None

    def __contains__(self, name: object) -> bool:
        return self.pattern is None or fnmatchcase(str(name), self.pattern)

    def require_one(self, names: Iterable[str]) -> None:
        """Refuses a pattern that no executed layer matches.

        Raises:
            UsageError: lists what there is.
        """
        present = list(dict.fromkeys(names))
        if present and not any(name in self for name in present):
            shown = ", ".join(present[:6]) + (", ..." if len(present) > 6 else "")
            raise UsageError(
                f"--layers {self.pattern!r} matches none of the {len(present)} executed layers",
                hint=f"the layers are: {shown}",
            )


def measurable(collected: Collected, mode: str = "batch") -> list[Key]:
    """Calls with a gradient and enough values per channel for the theorems, in execution order."""
    fewest = 3 if mode == "batch" else 1
    return [r.key for r in collected.batches[0] if r.obstacle is None and r.m >= fewest]


_NO_GRAD = "the model runs this layer without autograd (no_grad)"


_NOT_REACHED = "no gradient reaches this layer (a branch the loss does not use)"


@dataclass(slots=True)
class LayerRecord:
    """What one BatchNorm call left behind on one batch.

    Attributes:
        name, occurrence: which call.
        rank: dimensions of its input.
        channels, m, eps, training: as in `BatchNormCall`.
        dtype: of the activations.
        gamma, running_mean, running_var: float64 copies on the CPU, or None.
        moments: None until backward has passed, or `finish` was called.
        obstacle: why no gradient arrived, or None.
        waiting: the input, until backward passes the layer.
        reads: as in `LayerReport`.
        rows: how the batch's rows share in the moments; None until they are there.
        known: what `evaluated` found on batch statistics.
    """

    name: str
    occurrence: int
    rank: int
    channels: int
    m: int
    eps: float
    training: bool
    dtype: torch.dtype
    gamma: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    moments: Moments | None = None
    obstacle: str | None = None
    waiting: Tensor | None = None
    reads: tuple[str, ...] | None = None
    rows: Rows | None = None
    known: FirstOrderChannels | None = None

    def evaluated(self, running_var: Tensor | None = None) -> FirstOrderChannels:
        """Its first order, with the statistics of the batch unless others normalised the layer.

        Only of a layer that has moments.
        """
        if self.moments is None:
            raise AssertionError("a layer without moments has no first order")
        if running_var is not None:
            return first_order(self.moments, self.gamma, self.eps, self.m, running_var)
        if self.known is None:
            self.known = first_order(self.moments, self.gamma, self.eps, self.m)
        return self.known

    @property
    def label(self) -> str:
        """As in `LayerReport`."""
        return self.name if self.occurrence == 1 else f"{self.name}#{self.occurrence}"

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the same call on every batch."""
        return (self.name, self.occurrence)

    def stores_its_input(self) -> bool:
        """Whether the running means are those of this batch, in all channels, to float32's rounding."""
        if self.moments is None or self.running_mean is None:
            return False
        off = (self.moments.mean - self.running_mean).abs()
        return bool((off <= 1e-5 * (self.moments.var + self.eps).sqrt()).all())


def _double(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.detach().to("cpu", torch.float64)


def record_of(call: BatchNormCall) -> LayerRecord:
    """The part of a record that the forward pass knows."""
    return LayerRecord(
        name=call.name,
        occurrence=call.occurrence,
        rank=call.x.dim(),
        channels=call.x.shape[1],
        m=call.m,
        eps=call.eps,
        training=call.training,
        dtype=call.x.dtype,
        gamma=_double(call.gamma),
        running_mean=_double(call.running_mean),
        running_var=_double(call.running_var),
    )


@dataclass(slots=True)
class FirstOrderProbe:
    """Normalises, and reduces x, G and g to moments the moment backward passes the layer.

    The hook sits on the autograd node of the BatchNorm itself. What it sees is dL/dz at this
    output before any in-place activation, and this node's own share of dL/dx, so a skip connection that
    reads the same x is not counted. Nothing is kept but a reference to x, which the node holds anyway.
    """

    mode: str
    selection: Selection = field(default_factory=Selection)
    executed: list[str] = field(default_factory=list)
    records: list[LayerRecord] = field(default_factory=list)
    begun: bool = False
    nodes: dict[Any, LayerRecord] = field(default_factory=dict)

    def begin(self) -> None:
        """The backward pass of the loss begins: one that the model ran in its forward is not measured."""
        self.begun = True

    def link(self) -> None:
        """Between forward and backward: writes down which calls feed which, from the autograd graph."""
        feeding: dict[Any, frozenset[str]] = {}
        for node, record in self.nodes.items():
            stack = [node]
            while stack:  # a node's answer follows its parents': depth would exceed Python's stack
                top = stack[-1]
                parents = [p for p, _ in top.next_functions if p is not None]
                open_ones = [p for p in parents if p not in feeding and p not in self.nodes]
                stack += open_ones
                if not open_ones:
                    found = (
                        frozenset({self.nodes[p].label}) if p in self.nodes else feeding[p]
                        for p in parents
                    )
                    feeding[stack.pop()] = frozenset().union(*found)
            record.reads = tuple(r.label for r in self.records if r.label in feeding[node])

    def __call__(self, call: BatchNormCall) -> Tensor:
        """Carries a call of the forward pass out."""
        self.executed.append(call.name)
        if call.name not in self.selection:
            return normalise(call, differentiable(call.x), self.mode)
        record = record_of(call)
        self.records.append(record)
        return self._run(call, record)

    def replay(self, call: BatchNormCall) -> Tensor:
        """A call that activation checkpointing repeats during backward.

        The usual (non-reentrant) kind only refills the saved tensors of nodes that carry their hooks
        already: a second record would count the layer twice. The reentrant kind ran its forward
        without autograd, and these are the nodes that backward will pass.
        """
        waiting = (r for r in self.records if r.name == call.name and r.obstacle == _NO_GRAD)
        record = next(waiting, None)
        if record is None:
            return normalise(call, differentiable(call.x), self.mode)
        record.obstacle = None
        return self._run(call, record)

    def finish(self) -> None:
        """After backward: layers that no gradient reached still have statistics of their own."""
        self.nodes.clear()
        for record in self.records:
            if record.waiting is not None:
                record.obstacle = record.obstacle or _NOT_REACHED
                record.moments, sums = channel_moments(record.waiting, None, None)
                record.rows = rows_of(record.waiting, sums)
                record.waiting = None

    def _run(self, call: BatchNormCall, record: LayerRecord) -> Tensor:
        x = differentiable(call.x)
        z = normalise(call, x, self.mode)
        record.waiting = x.detach()
        if z.grad_fn is None:
            record.obstacle = _NO_GRAD
            return z

        def hook(grad_in: Sequence[Tensor | None], grad_out: Sequence[Tensor | None]) -> None:
            g, big_g, x = grad_in[0], grad_out[0], record.waiting
            if self.begun and g is not None and big_g is not None and x is not None:
                record.waiting = None
                with torch.no_grad():
                    record.moments, sums = channel_moments(x, big_g, g)
                    record.rows = rows_of(x, sums)

        node: Any = z.grad_fn
        node.register_hook(hook)
        self.nodes[node] = record
        return z


@dataclass(slots=True)
class Collected:
    """What the batches left behind.

    Attributes:
        batches: per batch the records of its BatchNorm calls, in execution order.
        losses: per batch.
        outputs: per batch, the output that labels are for (rows, ...); None where it is too large to be kept.
        executed: names of all BatchNorm calls, selected or not.
        instance_norms: InstanceNorm calls in the first batch.
        apart: names of the calls that are no layers, and what they are.
        undecided: names of calls on a single row that may be no layers.
        recorded: the first batch's pass for the second order, where it was asked for and could be recorded.
        prepared: what `bnaudit.measure.preparation` found, None where nobody looked.
    """

    batches: list[list[LayerRecord]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    outputs: list[Tensor | None] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    instance_norms: int = 0
    apart: Mapping[str, str] = field(default_factory=dict)
    undecided: Sequence[str] = ()
    recorded: Recorded | None = None
    prepared: Sequence[Any] | None = None

    @property
    def weights(self) -> list[str]:
        """Names of the calls on weights (weight standardisation)."""
        return [name for name, kind in self.apart.items() if kind == WEIGHT]


def collect(
    execution: Execution,
    namer: Namer,
    batches: Sequence[Batch],
    mode: str,
    selection: Selection,
    progress: Progress,
    *,
    record: bool = False,
) -> Collected:
    """Runs the batches and gathers the moments of every BatchNorm call.

    Args:
        execution: the model, placed.
        namer: of its layers.
        batches: to run.
        mode: "batch" or "running".
        selection: which layers to measure; the others only run.
        progress: told of each batch.
        record: also write down the first batch's pass, for the second order.

    Raises:
        RunError: the model cannot be run or differentiated.
        UsageError: no executed layer is selected.
    """
    run = _Runner(execution, namer, mode, selection, len(batches), progress)
    passes = run.through(batches, record=record)
    apart = {name: kind for (name, _), kind in (namer.apart or {}).items()}
    if len(passes) < len(batches) or not passes[0].log.calls:
        (only,) = passes.values()
        return Collected(instance_norms=only.log.instance_norms, apart=apart)
    ordered = [passes[index] for index in range(len(batches))]
    collected = Collected(
        batches=[found.probe.records for found in ordered],
        losses=[found.loss for found in ordered],
        outputs=[found.output for found in ordered],
        executed=[name for found in ordered for name in found.probe.executed],
        instance_norms=ordered[0].log.instance_norms,
        apart=apart,
        undecided=_undecided(batches[0], passes, apart),
        recorded=ordered[0].recorded,
    )
    selection.require_one(collected.executed)
    run.require_gradient(collected, batches[0])
    return collected


def go_on(
    collected: Collected,
    execution: Execution,
    namer: Namer,
    batches: Sequence[Batch],
    mode: str,
    selection: Selection,
    progress: Progress,
) -> None:
    """Runs further batches, and adds what they left behind.

    Args:
        collected: what the batches before them did.
        batches: the further ones.
        execution: as of these.
        namer: as of these.
        mode: as of these.
        selection: as of these.
        progress: told of each batch.

    Raises:
        RunError: the model cannot be run or differentiated.
    """
    start = len(collected.batches)
    run = _Runner(execution, namer, mode, selection, start + len(batches), progress)
    progress.stage("measuring further batches", len(batches))
    for index, batch in enumerate(batches, start):
        found = run(batch, index, record=False)
        collected.batches.append(found.probe.records)
        collected.losses.append(found.loss)
        collected.outputs.append(found.output)
        collected.executed.extend(found.probe.executed)
        progress.advance()


def _undecided(batch: Batch, passes: Mapping[int, _Pass], apart: Mapping[str, str]) -> list[str]:
    """Calls without trained statistics on one row, where N C channels of an instance norm are C."""
    log = next(iter(passes.values())).log
    single = [name for name, _ in log.doubtful if batch.rows == 1 and name not in apart]
    return [name for name in dict.fromkeys(single) if any(name == other for other, _ in log.single)]


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one batch left behind."""

    probe: FirstOrderProbe
    log: TapLog
    loss: float
    output: Tensor | None
    recorded: Recorded | None
    seconds: float


KEPT = 1 << 24
"""Values of an output, over all batches, that are kept to be compared."""


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs a batch forward and backward."""

    execution: Execution
    namer: Namer
    mode: str
    selection: Selection
    batches: int
    progress: Progress

    def through(self, batches: Sequence[Batch], *, record: bool) -> dict[int, _Pass]:
        """All batches by number; one alone where its forward runs without a call, as the others would."""
        self.progress.stage("measuring", len(batches))
        passes: dict[int, _Pass] = {}
        # The first comes last: what is recorded of it is read next, and no other pass runs beside it.
        for index in (*range(1, len(batches)), 0):
            run = self if passes else self.first
            passes[index] = found = run(batches[index], index, record=record and index == 0)
            if not found.log.calls:
                return {index: found}
            self.progress.advance()
        return passes

    def first(self, batch: Batch, index: int, *, record: bool) -> _Pass:
        """The pass that finds out what all others have to know: state, calls that are no layers, the head."""
        found = self(batch, index, record=record)
        if self.batches > 1:
            self.progress.expect(found.seconds * self.batches, "--batches 1 runs one alone")
            if self.execution.state.kept():
                self.require_apart(batch, index)
        if self.namer.apart is None:
            # Statistics that are those of the input itself were computed from it when it was exported.
            found.log.doubtful += [r.key for r in found.probe.records if r.stores_its_input()]
            self.namer.apart = tell_apart(self.execution, self.namer, batch, found.log)
            if self.namer.apart or self.execution.head.kinds:
                again = self(batch, index, record=record)
                again.log.single, again.log.doubtful = found.log.single, found.log.doubtful
                return again
        return found

    def __call__(self, batch: Batch, index: int, *, record: bool) -> _Pass:
        if record:
            # Whatever the recorder meets: what the model itself raises, the plain pass says.
            with suppress(Exception):
                return self._run(batch, index, Recording())
        return self._run(batch, index, None)

    def require_gradient(self, collected: Collected, batch: Batch) -> None:
        """Where every gradient is 0: refuses probabilities of 0 and 1, which are no fault of the layers."""
        moments = [
            r.moments
            for records in collected.batches
            for r in records
            if r.moments and not r.obstacle
        ]
        if not moments or any(bool(m.grad_out_sq.any()) for m in moments):
            return
        with tapped(self.namer, self._differentiably) as tap, torch.enable_grad():
            tap.start()
            output, loss = self.execution.both(batch, 0)
            outputs = list(floating(named_tensors(self.execution.outputs(batch))).values())
            scores = [y for y in floating(named_tensors(output)).values() if y.requires_grad]
            slopes = torch.autograd.grad(loss, scores, allow_unused=True)
        for y in outputs:
            sure = bool(((y == 0) | (y == 1)).all())
            if sure and (bool((y == 1).any()) or final_activation(y) is not None):
                raise RunError(
                    "every gradient is 0: the model's output is saturated, its probabilities are 0 and 1 to "
                    "the last digit",
                    hint="audit the network up to its logits, without the final softmax or sigmoid",
                )
        if not any(bool(slope.any()) for slope in slopes if slope is not None):
            raise RunError(
                f"the loss {self.execution.loss.name} is constant: its gradient is 0 at every output",
                hint="labels that are all met (of a hinge), or a loss that does not read the output, say "
                "nothing of a gradient: pass another --loss, or other labels",
            )

    def require_apart(self, batch: Batch, index: int) -> None:
        """Refuses a model whose calls lead into the graph of the call before.

        It goes on where that ended, and every other pass of the audit begins anew: whether the batches are
        one sequence or several is for its author to say.
        """
        with tapped(self.namer, self._differentiably) as tap, torch.enable_grad():
            tap.start()
            self.execution.value(batch, index)
            kept = self.execution.state.kept()
            tap.start()
            reached = set(walk(self.execution.value(batch, index, go_on=True)))
        names = [name for name, nodes in kept.items() if not reached.isdisjoint(nodes)]
        if names:
            raise RunError(
                f"the model keeps state between calls ({', '.join(names[:3])}): a batch leads back into "
                "the one before",
                hint="reset or detach it in forward, or give a factory whose network does; with "
                "--batches 1 every pass begins with the state that the model comes with",
            )

    def _differentiably(self, call: BatchNormCall) -> Tensor:
        return normalise(call, differentiable(call.x), self.mode)

    def _run(self, batch: Batch, index: int, recording: Recording | None) -> _Pass:
        probe = FirstOrderProbe(self.mode, self.selection)
        handler = probe if recording is None else recording.around(probe)
        recorded, output, start = None, None, time.perf_counter()
        with tapped(self.namer, handler, probe.replay) as tap, torch.enable_grad():
            tap.start()
            with nullcontext() if recording is None else recording.forward():
                look = self.namer.apart is None
                returned, loss = self.execution.both(batch, index, look=look)
            if tap.log.calls:
                _require_finite(loss, self.execution, self.namer, batch, index, self.mode)
                recorded = None if recording is None else recording.backward_of(loss)
                probe.begin()
                if index == 0:
                    probe.link()
                _backward(loss, tap.log)
                probe.finish()
                y = primary(outputs_of(returned))[1].detach()
                output = y.clone() if y.numel() * self.batches <= KEPT else None
            log, value = tap.log, float(loss.detach())
        spent = time.perf_counter() - start
        recorded = recorded and replace(recorded, seconds=spent)
        return _Pass(probe, log, value, output, recorded, spent)


def _backward(loss: Tensor, log: TapLog) -> None:
    if not loss.requires_grad:
        if log.without_grad:
            raise RunError(
                "the model runs its layers without autograd (torch.no_grad or inference mode inside)",
                hint="remove the no_grad from the model's forward, or export it without",
            )
        raise RunError(
            "no gradient flows from the model's output back to any BatchNorm layer",
            hint="the output is detached, or cut by argmax, round or a cast to integers: export the "
            "network up to its scores",
        )
    try:
        loss.backward()
    except BnauditError:
        raise
    except Exception as error:  # whatever a backward of the model's own raises
        if isinstance(error, torch.OutOfMemoryError):
            raise RunError(
                "the device ran out of memory", hint="pass a smaller --batch-size"
            ) from error
        raise RunError(f"the model cannot be differentiated: {first_line(error)}") from error


def _require_finite(
    loss: Tensor, execution: Execution, namer: Namer, batch: Batch, index: int, mode: str
) -> None:
    if bool(torch.isfinite(loss.detach())):
        return
    culprits: list[str] = []

    def watch(call: BatchNormCall) -> Tensor:
        z = normalise(call, call.x, mode)
        for what, t in (("input", call.x), ("output", z)):
            if not culprits and not bool(torch.isfinite(t).all()):
                culprits.append(f"the {what} of {call.name} is the first that is not finite")
        return z

    with tapped(namer, watch) as tap, torch.no_grad():
        tap.start()
        output = execution.scores(batch, index)
    finite = all(bool(torch.isfinite(y).all()) for y in floating(named_tensors(output)).values())
    where = "every BatchNorm layer is finite, the output is not"
    if culprits or finite:
        of_loss = f"the model's output is finite, the loss {execution.loss.name} is not"
        where = culprits[0] if culprits else of_loss
    raise RunError(
        f"the loss of batch {index + 1} is {float(loss.detach())}: {where}",
        hint="check the weights and statistics of that layer, the input scaling, and the labels",
    )


def first_order_records(session: Session) -> dict[Key, LayerRecord]:
    """One forward and backward of the first batch, for the moments of every layer.

    Raises:
        RunError: the model cannot be differentiated.
    """
    probe = FirstOrderProbe("batch")
    with tapped(session.placed.namer, probe, probe.replay) as tap, torch.enable_grad():
        tap.start()
        loss = session.execution.value(session.batches.items[0], 0)
        if not loss.requires_grad:
            raise RunError("the model cannot be differentiated in float64")
        probe.begin()
        loss.backward()
        probe.finish()
    return {r.key: r for r in probe.records if r.obstacle is None}
