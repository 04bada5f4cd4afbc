"""The reference: both sides of the theorem by plain double backward, layer by layer.

One double backward gives both sides: the gradient of <g, v> (v = g held fixed) with respect to x is
Hx g, and with respect to z, where g depends on z only through G and J is symmetric, it is Hz(Jg).
One more double backward gives Hz G. The graph of one batch stays in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from bnaudit.errors import first_line
from bnaudit.measure.curvature import Products, Rows, curvature_rows, normalised
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, aliased, differentiable, normalise, pulled_back, walk
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.autograd.graph import GradientEdge

    from bnaudit.measure.collect import LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress

Key = tuple[str, int]

OUT_OF_GRAPH = "the forward pass runs it without autograd (reentrant activation checkpointing)"

_ONCE = "torch::autograd::Error"  # the node that `once_differentiable` leaves


@dataclass(frozen=True, slots=True)
class _Site:
    """Where a layer hangs in the autograd graph, and its input's values."""

    x: Tensor
    at_input: GradientEdge
    at_output: GradientEdge


@dataclass(slots=True)
class _Edges:
    """Keeps the private input and output of chosen layers as edges of the graph.

    Edges and not tensors: an in-place activation overwrites z, and its edge stays what it was.
    """

    keys: frozenset[Key]
    sites: dict[Key, _Site] = field(default_factory=dict)

    def __call__(self, call: BatchNormCall) -> Tensor:
        x = differentiable(call.x)
        alias = aliased(x)
        z = normalise(call, alias, "batch")
        if call.key in self.keys and z.grad_fn is not None:
            edges = (get_gradient_edge(alias), get_gradient_edge(z))
            self.sites[call.key] = _Site(alias.detach(), *edges)
        return z


def double_backward_rows(
    session: Session,
    records: Mapping[Key, LayerRecord],
    keys: Sequence[Key],
    progress: Progress,
    *,
    bound: bool,
) -> dict[Key, Rows | Skipped]:
    """The rows of some layers, on the first batch, with batch statistics.

    Args:
        session: the model and its batches.
        records: first order of the layers on that batch.
        keys: the layers.
        progress: told of each layer.
        bound: also G'HzG, by a second product.
    """
    edges = _Edges(frozenset(keys))
    # Fused attention cannot be differentiated twice; its plain form can.
    try:
        with tapped(session.placed.namer, edges) as tap, sdpa_kernel(SDPBackend.MATH):
            tap.start()
            with torch.enable_grad():
                loss = session.execution.value(session.batches.items[0], 0)
                results = _double_backward(loss, edges.sites, records, progress, bound=bound)
    except Exception as error:  # whatever a backward of the model's own raises
        reason = f"the model cannot be differentiated twice: {first_line(error)}"
        if isinstance(error, torch.OutOfMemoryError):
            reason = "the device ran out of memory in double backward (smaller --batch-size)"
        return dict.fromkeys(keys, Skipped(reason))
    dead = {key for key in keys if key not in records or records[key].moments is None}
    return {
        key: results.get(key)
        or Skipped("no gradient reaches this layer" if key in dead else OUT_OF_GRAPH)
        for key in keys
    }


def _double_backward(
    loss: Tensor,
    sites: dict[Key, _Site],
    records: Mapping[Key, LayerRecord],
    progress: Progress,
    *,
    bound: bool,
) -> dict[Key, Rows | Skipped]:
    keys = list(sites)
    if not keys:
        return {}
    inputs = [sites[k].at_input for k in keys]
    outputs = [sites[k].at_output for k in keys]
    gradients = torch.autograd.grad(loss, [*inputs, *outputs], create_graph=True, allow_unused=True)
    if any(node.name() == _ONCE for t in gradients if t is not None for node in walk(t)):
        # PyTorch would go around such a node, and return what is left without a word.
        return dict.fromkeys(keys, Skipped("a function of the model is differentiable only once"))
    results: dict[Key, Rows | Skipped] = {}
    for i, key in enumerate(keys):
        g, big_g = gradients[i], gradients[len(keys) + i]
        record = records.get(key)
        if g is None or big_g is None or record is None or record.moments is None:
            continue
        progress.advance()
        moments, site = record.moments, sites[key]
        if float(moments.grad_in_sq.sum()) == 0:
            results[key] = Skipped("the gradient at this layer is zero")
            continue
        v, u = g.detach(), big_g.detach()
        hx, hz = _products(g, v, [site.at_input, site.at_output])
        hz_big_g = _products(big_g, u, [site.at_output])[0] if bound else None
        channels = record.evaluated()
        found = Products(normalised(site.x, moments, channels), v, u, hx, hz, hz_big_g)
        results[key] = curvature_rows(found, moments, channels, record)
    return results


def _products(gradient: Tensor, along: Tensor, edges: list[GradientEdge]) -> list[Tensor]:
    """Hessian-vector products: the derivative of <gradient, along> at some edges."""
    if not gradient.requires_grad:  # the loss is linear from here on
        return [torch.zeros_like(along) for _ in edges]
    found = pulled_back([gradient], edges, [along], retain=True)
    return [torch.zeros_like(along) if t is None else t for t in found]
