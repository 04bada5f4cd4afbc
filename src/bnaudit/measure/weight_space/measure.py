"""Weight space at chosen layers: one forward and one backward of the model, with its parameters live.

Each layer is measured the moment backward passes the operator in front of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import GradientEdge

from bnaudit.errors import RunError
from bnaudit.measure.collect import BATCH_ONLY, measurable
from bnaudit.measure.weight_space.bound import weight_gradients, weight_space
from bnaudit.measure.weight_space.feeders import Feeder, find_feeder
from bnaudit.measure.weight_space.graph import Node, readers
from bnaudit.measure.weight_space.spectral import spectral_norms
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, differentiable, normalise, plain
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from bnaudit.measure.collect import Collected, Found, LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.weights import WeightSpace


@contextmanager
def full_precision() -> Iterator[None]:
    """Switches TF32 off, with which products on CUDA have ten bits, and puts the flags back.

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


Key = tuple[str, int]


@dataclass(slots=True)
class _Layer:
    """A BatchNorm call with its feeder, between forward and backward."""

    feeder: Feeder
    batchnorm: Node
    shape: torch.Size
    gradients: tuple[Tensor, Tensor] | None = None


@dataclass(slots=True)
class WeightProbe:
    """Finds the feeders in the forward pass, and hooks their operators for the backward pass.

    Attributes:
        gains: |D| = |gamma|/sigma of the calls to measure, (C,).
        label: names a feeder.
        progress: told of each layer that is finished.
        found: what is finished.
        layers: what waits for the backward pass. Clear it when that has ended in an exception: a node
            holds its hooks, these hold the probe, and a layer in it would hold the node.
    """

    gains: Mapping[Key, Tensor]
    label: Callable[[Feeder], str]
    progress: Progress
    found: dict[Key, WeightSpace | Skipped] = field(default_factory=dict)
    layers: dict[Key, _Layer] = field(default_factory=dict)

    def __call__(self, call: BatchNormCall) -> Tensor:
        """Carries a call of the forward pass out."""
        z = normalise(call, differentiable(call.x), "batch")
        if call.key in self.gains:
            feeder = _feeder(call)
            if isinstance(feeder, Skipped):
                self._finish(call.key, feeder)
            else:
                self.layers[call.key] = _Layer(feeder, z.grad_fn, call.x.shape)
        return z

    def attach(self, loss: Tensor) -> list[GradientEdge]:
        """Sets the hooks; to be called between forward and backward.

        Returns:
            The edges that lead to the weights, for `torch.autograd.grad`.
        """
        uses = readers(loss.grad_fn)
        for key, layer in list(self.layers.items()):
            on_the_way = [uses[node] for node in (*layer.feeder.path, layer.feeder.node)]
            if uses[layer.batchnorm] and max(on_the_way) == 1:
                self._hook(key, layer)
                continue
            reason = (
                f"something besides this layer reads the output of {self.label(layer.feeder)}"
                if uses[layer.batchnorm]
                else "no gradient reaches this layer (a branch the loss does not use)"
            )
            del self.layers[key]
            self._finish(key, Skipped(reason))
        return [
            GradientEdge(*layer.feeder.node.next_functions[layer.feeder.slot])
            for layer in self.layers.values()
        ]

    def _finish(self, key: Key, result: WeightSpace | Skipped) -> None:
        self.found[key] = result
        self.progress.advance()

    def _hook(self, key: Key, layer: _Layer) -> None:
        """The operator's own node gives dL/dW of this use alone, also where a weight is shared.

        A hook takes its layer out of `layers`, so no more is kept than autograd keeps.
        """
        slot = layer.feeder.slot

        def at_batchnorm(
            grad_in: Sequence[Tensor | None], grad_out: Sequence[Tensor | None]
        ) -> None:
            if grad_in[0] is not None and grad_out[0] is not None:
                self.layers[key].gradients = (grad_in[0], grad_out[0])

        def at_feeder(grad_in: Sequence[Tensor | None], grad_out: Sequence[Tensor | None]) -> None:
            done, dw, arrived = self.layers.pop(key), grad_in[slot], grad_out[0]
            if dw is None or arrived is None or done.gradients is None:
                self._finish(key, Skipped("no gradient reaches the weights of this layer"))
                return
            with torch.no_grad():
                self._finish(key, self._measure(key, done, dw, arrived.numel()))

        layer.batchnorm.register_hook(at_batchnorm)
        layer.feeder.node.register_hook(at_feeder)

    def _measure(self, key: Key, layer: _Layer, dw: Tensor, size: int) -> WeightSpace | Skipped:
        feeder = layer.feeder
        pulled = [feeder.pull(t) for t in layer.gradients or ()]
        g, big_g = pulled
        if g is None or big_g is None or g.numel() != size:
            return Skipped(f"{self.label(feeder)} is broadcast before it reaches this layer")
        unfolded = feeder.used(layer.shape)
        if unfolded is None:
            return Skipped(f"its channels are not the output channels of {self.label(feeder)}")
        gradients = weight_gradients(unfolded, dw, g, big_g)
        if not gradients.finite:
            return Skipped("activations or gradients of this layer are not finite")
        norms = spectral_norms(unfolded, g.device)
        return weight_space(self.label(feeder), gradients, norms, self.gains[key], feeder.dtype)


def _feeder(call: BatchNormCall) -> Feeder | Skipped:
    if not torch.is_grad_enabled():
        return Skipped("the model runs this layer without autograd (no_grad)")
    # Reading a saved tensor would make activation checkpointing run its region again.
    autograd: Any = torch._C._autograd
    hooks = getattr(autograd, "_top_saved_tensors_default_hooks", None)
    if hooks is not None and hooks(False) is not None:
        return Skipped("inside activation checkpointing, or other hooks on saved tensors")
    try:
        return find_feeder(call.x.grad_fn)
    except RuntimeError:
        return Skipped("the input of the operator in front is overwritten in place")


def measure_weight_space(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """Theorem 4.4 at each layer, on the first sample batch; with running statistics nothing is measured.

    Args:
        session: the model and its batches; call it inside `untouched`.
        collected: the first-order pass.
        options: the mode.
        progress: told of each layer.
    """
    keys = measurable(collected)
    if options.mode != "batch":
        return {"weight_space": dict.fromkeys(keys, BATCH_ONLY)}
    records = {r.key: r for r in collected.batches[0]}
    progress.stage("weight space", len(keys))
    probe = WeightProbe({key: _gain(records[key]) for key in keys}, _Names(session).label, progress)
    failure = _run(session, probe) if keys else ""
    not_reached = Skipped(failure or "no gradient reaches this layer")
    return {"weight_space": {key: probe.found.get(key, not_reached) for key in keys}}


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
