"""The handler that measures each layer's weights the moment backward passes the operator before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import GradientEdge

from bnaudit.measure.weight_space.bound import weight_gradients, weight_space
from bnaudit.measure.weight_space.feeders import Feeder, find_feeder
from bnaudit.measure.weight_space.graph import Node, readers
from bnaudit.measure.weight_space.spectral import spectral_norms
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, differentiable, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from bnaudit.progress import Progress
    from bnaudit.records.weights import WeightSpace

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
