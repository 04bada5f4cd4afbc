"""The loss along the gradient step, with BatchNorm and with its statistics frozen.

Santurkar et al. (2018), section 3.1 and figure 4; the gauge-free form is ours.

At weights w, on one batch, with g = dL/dw in training mode:

    raw        w(eta) = w - eta g
               distance eta |g|, change |g(eta) - g|
    relative   w_l(r) = w_l - r |w_l|^2 g_l / R,   R = (sum_l |w_l|^2 |g_l|^2)^(1/2)
               distance r, change (sum_l |w_l|^2 |g_l(r) - g_l|^2)^(1/2)
               l: the layers, all parameters of a module together

    variation  largest minus smallest loss over the steps, 0 included
    beta       the largest change / distance over the steps: effective beta-smoothness

The relative walk is steepest descent where a layer's move d_l counts by its own size, |d_l|/|w_l|, and r is
the size of the whole step. Weights in front of a BatchNorm have no size of their own: c w is the same
function (but for eps) and its gradient is g/c. With c w in their place the raw walk takes another path and
has another beta; the relative one has the same path, and all that is made of it is the same.

Frozen: each BatchNorm is the affine map gamma (x - mu)/(var + eps)^(1/2) + beta with the mu, var of this
batch at w, held fast. At w both networks have the same values, outputs and loss; around it statistics
follow the weights in one, and not in the other. Each walks along its own gradient; frozen, that is at w the
one of the frozen twin (`measure/twins.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from math import fsum, hypot, isfinite, sqrt
from typing import TYPE_CHECKING

import torch

from bnaudit.data.loss import outputs_of
from bnaudit.errors import BnauditError, RunError, first_line
from bnaudit.tap.call import as_called, as_given, with_statistics
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from bnaudit.data.batch import Batch
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]
Gradients = list["Tensor | None"]


@dataclass(frozen=True, slots=True)
class Layer:
    """The parameters of one module, which move together.

    Attributes:
        name: of the module, as its author knows it.
        names: of the parameters.
        places: of the parameters among all that are moved.
        size: |w|.
    """

    name: str
    names: tuple[str, ...]
    places: tuple[int, ...]
    size: float


@dataclass(slots=True)
class Trail:
    """One walk of one network on one batch.

    Attributes:
        network, form: which.
        loss: at the weights.
        norms: by layer |g| at the weights.
        losses: by step, None where there is none.
        changes: by step the change of the gradient by layer, None where there is none.
    """

    network: str
    form: str
    loss: float
    norms: list[float]
    losses: list[float | None] = field(default_factory=list)
    changes: list[list[float] | None] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What all batches showed.

    Attributes:
        trails: by batch, form and network.
        radial: by batch and layer |<g, w>| / (|g| |w|) with BatchNorm, None where there is no gradient.
        loss_apart, outputs_apart: by batch, of the two networks at the weights.
        feeds: identity of a parameter -> the first BatchNorm that it feeds with none between.
        own: identities of gammas and betas.
        calls: BatchNorm calls in a forward pass.
        gradients: forward and backward passes that were run.
    """

    trails: list[Trail] = field(default_factory=list)
    radial: list[list[float | None]] = field(default_factory=list)
    loss_apart: list[float] = field(default_factory=list)
    outputs_apart: list[float] = field(default_factory=list)
    feeds: dict[int, str] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    calls: int = 0
    gradients: int = 0


class Weights:
    """The parameters that are moved, and where they were."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.at = [p.detach().clone() for p in self.parameters]

    def move(self, along: Gradients, sizes: Sequence[float]) -> None:
        """W - size g, each with a size of its own."""
        with torch.no_grad():
            for p, w, g, size in zip(self.parameters, self.at, along, sizes, strict=True):
                if g is not None:
                    torch.sub(w, g, alpha=size, out=p)

    def restore(self) -> None:
        """Back to where they were, to the bit."""
        with torch.no_grad():
            for p, w in zip(self.parameters, self.at, strict=True):
                p.copy_(w)


def layers_of(parameters: Mapping[str, nn.Parameter]) -> list[Layer]:
    """Parameters by the module that owns them, in their order.

    Args:
        parameters: by name.
    """
    owned: dict[str, list[tuple[int, str]]] = {}
    for place, name in enumerate(parameters):
        owned.setdefault(name.rpartition(".")[0], []).append((place, name))
    found = []
    for owner, entries in owned.items():
        size = hypot(*(_norm(parameters[name]) for _, name in entries))
        places, names = zip(*entries, strict=True)
        found.append(Layer(owner or "(model)", names, places, size))
    return found


def walk(
    session: Session,
    parameters: Mapping[str, nn.Parameter],
    steps: Mapping[str, Sequence[float]],
    progress: Progress,
) -> Found:
    """Both networks along their gradients, on every batch; call inside `untouched`.

    Args:
        session: the model and its batches.
        parameters: that are moved, by name.
        steps: form -> its steps.
        progress: told of each gradient.

    Raises:
        RunError: the model cannot be differentiated at its own weights.
    """
    found = Found()
    weights = Weights(list(parameters.values()))
    layers = layers_of(parameters)
    each = 2 + 2 * sum(map(len, steps.values()))
    progress.stage("landscape", each * len(session.batches.items))
    try:
        for p in weights.parameters:
            p.requires_grad_(True)
        for index, batch in enumerate(session.batches.items):
            one = _Batch(session, batch, index, weights, layers, found, progress)
            one.run(steps, each * len(session.batches.items))
    finally:
        try:
            weights.restore()
        finally:  # once more, where Ctrl-C came into the first
            weights.restore()
            for p in weights.parameters:
                p.requires_grad_(False)
    return found


@dataclass(slots=True)
class _Frozen:
    """Notes the statistics of every call at the weights, and holds them fast afterwards."""

    found: Found
    look: bool
    statistics: dict[Key, list[Tensor]] = field(default_factory=dict)
    nodes: set[object] = field(default_factory=set)

    def noting(self, call: BatchNormCall) -> Tensor:
        """BatchNorm on batch statistics, written down."""
        if self.look:
            self._trace(call)
        z, *self.statistics[call.key] = with_statistics(call)
        self.nodes.add(z.grad_fn)
        return z

    def held(self, call: BatchNormCall) -> Tensor:
        """The affine map with these statistics; in a call that backward repeats its number is not known."""
        known = self.statistics.get(call.key)
        if known is None:
            ours = [s for (name, _), s in self.statistics.items() if name == call.name]
            if len(ours) != 1:
                raise RunError(
                    f"{call.name} is called otherwise than at the weights themselves: there are no "
                    "statistics to hold fast",
                    hint="switch activation checkpointing off, or branches that depend on values",
                )
            known = ours[0]
        like = next(t for t in (call.running_var, call.gamma, call.x) if t is not None)
        mean, var = (t.to(like.device, like.dtype) for t in known)
        return as_given(replace(call, running_mean=mean, running_var=var))

    def _trace(self, call: BatchNormCall) -> None:
        """The parameters between the BatchNorms in front of a call and itself."""
        self.found.calls += 1
        self.found.own |= {id(p) for p in (call.gamma, call.beta) if p is not None}
        stack, visited = [call.x.grad_fn], set(self.nodes)
        while stack:
            node = stack.pop()
            if node is None or node in visited:
                continue
            visited.add(node)
            if hasattr(node, "variable"):
                self.found.feeds.setdefault(id(node.variable), call.name)
            stack += [parent for parent, _ in node.next_functions]


@dataclass(slots=True)
class _Batch:
    """The walks on one batch."""

    session: Session
    batch: Batch
    index: int
    weights: Weights
    layers: list[Layer]
    found: Found
    progress: Progress

    def run(self, steps: Mapping[str, Sequence[float]], total: int) -> None:
        """Both networks at the weights, then along their gradients."""
        start, frozen = time.perf_counter(), _Frozen(self.found, look=self.index == 0)
        own, loss, gradients = self._differentiated(frozen.noting, as_called)
        other, loss_frozen, held = self._differentiated(frozen.held, frozen.held)
        if self.index == 0:
            seconds = (time.perf_counter() - start) / 2
            self.progress.expect(seconds * total, "--steps, --batches and --form make it less")
        pairs = [(own[name].detach(), other[name].detach()) for name in own]
        self.found.outputs_apart.append(max(_apart(a, b) for a, b in pairs))
        self.found.loss_apart.append(abs(loss - loss_frozen) / max(abs(loss), 1.0))
        self.found.radial.append([self._radial(layer, gradients) for layer in self.layers])
        del own, other, pairs
        for form, sizes in steps.items():
            for network, at, value, handle, again in (
                ("batchnorm", gradients, loss, as_called, as_called),
                ("frozen", held, loss_frozen, frozen.held, frozen.held),
            ):
                trail = Trail(network, form, value, [_together(at, la) for la in self.layers])
                self._walk(trail, at, sizes, (handle, again))
                self.found.trails.append(trail)

    def _walk(
        self,
        trail: Trail,
        at: Gradients,
        steps: Sequence[float],
        handlers: tuple[Callable[[BatchNormCall], Tensor], Callable[[BatchNormCall], Tensor]],
    ) -> None:
        scales = scales_of(trail.form, self.layers, trail.norms)
        per = [0.0] * len(at)
        for layer, scale in zip(self.layers, scales, strict=True):
            for place in layer.places:
                per[place] = scale
        for step in steps:
            self.weights.move(at, [step * scale for scale in per])
            try:
                _, loss, there = self._differentiated(*handlers)
            except RunError:  # of a model that checks its own values, or takes another way there
                trail.losses.append(None)
                trail.changes.append(None)
                continue
            trail.losses.append(loss if isfinite(loss) else None)
            changed = [_difference(there, at, layer) for layer in self.layers] if there else None
            trail.changes.append(changed if changed and isfinite(hypot(*changed)) else None)
        self.weights.restore()

    def _differentiated(
        self,
        handle: Callable[[BatchNormCall], Tensor],
        again: Callable[[BatchNormCall], Tensor],
    ) -> tuple[dict[str, Tensor], float, Gradients]:
        """Outputs, loss and the gradient of the parameters; no gradient of a loss that is not finite."""
        self.found.gradients += 1
        self.progress.advance()
        with tapped(self.session.placed.namer, handle, again) as tap, torch.enable_grad():
            tap.start()
            output, loss = self.session.execution.both(self.batch, self.index)
            value = float(loss.detach())
            if not isfinite(value):
                return outputs_of(output), value, []
            try:
                found = torch.autograd.grad(loss, self.weights.parameters, allow_unused=True)
            except BnauditError:
                raise
            except torch.OutOfMemoryError as error:
                hint = "pass a smaller --batch-size"
                raise RunError("the device ran out of memory", hint=hint) from error
            except Exception as error:  # whatever a backward of the model's own raises
                text = f"the weights cannot be differentiated: {first_line(error)}"
                raise RunError(text) from error
        return outputs_of(output), value, [None if g is None else g.detach() for g in found]

    def _radial(self, layer: Layer, gradients: Gradients) -> float | None:
        inner = 0.0
        for place in layer.places:
            g = gradients[place]
            if g is not None:
                inner += float((g.double() * self.weights.at[place].double()).sum())
        size = _together(gradients, layer) * layer.size
        return abs(inner) / size if size > 0 else None


def scales_of(form: str, layers: Sequence[Layer], norms: Sequence[float]) -> list[float]:
    """By layer, what a step of 1 multiplies the gradient with.

    Args:
        form: of the walk.
        layers: with their sizes.
        norms: of their gradients at the weights.
    """
    if form == "raw":
        return [1.0] * len(layers)
    whole = hypot(*(layer.size * norm for layer, norm in zip(layers, norms, strict=True)))
    return [layer.size**2 / whole if whole else 0.0 for layer in layers]


_BLOCK = 1 << 16
"""Values whose squares are summed in float32: three digits more than a gradient of that precision has."""
_RANGE = 1e-24, 1e30
"""Of a mean square whose values have squares in float32 themselves."""


def _norm(t: Tensor) -> float:
    """|t|; of float32 on the processor by blocks, at a fourth of the time of float64 throughout."""
    t = t.detach()
    if t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() and t.numel():
        squares = fsum(float(torch.dot(part, part)) for part in t.view(-1).split(_BLOCK))
        if _RANGE[0] < squares / t.numel() < _RANGE[1]:
            return sqrt(squares)
    return float(torch.linalg.vector_norm(t, dtype=torch.float64))


def _together(gradients: Gradients, layer: Layer) -> float:
    parts = (gradients[place] for place in layer.places)
    return hypot(*(_norm(g) for g in parts if g is not None))


def _difference(there: Gradients, at: Gradients, layer: Layer) -> float:
    """|g(step) - g(0)|; a gradient that does not arrive is 0."""
    parts = []
    for place in layer.places:
        a, b = there[place], at[place]
        one = a if b is None else -b if a is None else a - b
        parts.append(0.0 if one is None else _norm(one))
    return hypot(*parts)


def _apart(a: Tensor, b: Tensor) -> float:
    if a.numel() == 0:
        return 0.0
    size = float(torch.maximum(a.abs().max(), b.abs().max()))
    return float((a - b).abs().max()) / size if size else 0.0
