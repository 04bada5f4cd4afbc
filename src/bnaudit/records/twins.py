"""BatchNorm against its twins: same forward values, other gradients, everything upstream measured."""

from __future__ import annotations

from dataclasses import dataclass

from bnaudit.records.values import Count, Finite


@dataclass(frozen=True, slots=True)
class ParameterEffect:
    """One parameter in front of the replaced layers.

    Attributes:
        name: the parameter's name.
        grad_norm: |dL/dtheta| of the model as it is (batch statistics).
        twin_grad_norm: the same for the twin.
    """

    name: str
    grad_norm: float
    twin_grad_norm: float


@dataclass(frozen=True, slots=True)
class Twin:
    """One replacement, on the first batch.

    "frozen" keeps z and sends D G back (BatchNorm's scaling without its projection); "identity"
    keeps z and sends G back. The end-to-end effect of BatchNorm is `twin_grad_norm / grad_norm`; it
    is measured, never a product of ratios over depth.

    Attributes:
        kind: frozen: D G is sent back, BatchNorm's scaling without its projection. identity: G is
            sent back.
        layer: label of the replaced layer, or None for all at once.
        loss_difference: |loss - loss of the twin|; 0, since they share the forward pass.
        grad_norm: |dL/dtheta| of the model as it is, over all parameters upstream of a replaced
            layer.
        twin_grad_norm: the same for the twin.
        parameters: the upstream parameters one by one, in the model's order.
    """

    kind: str
    layer: str | None
    loss_difference: float
    grad_norm: float
    twin_grad_norm: float
    parameters: tuple[ParameterEffect, ...]


@dataclass(frozen=True, slots=True)
class Upstream:
    """BatchNorm's end-to-end effect: gradients with its backward, and with the identity in place of it.

    Attributes:
        grad_norm: |dL/dtheta| over all parameters in front of a BatchNorm layer, on the first batch.
        twin_grad_norm: the same where every layer hands its gradient on as it is.
        parameters: how many those are.
    """

    grad_norm: Finite
    twin_grad_norm: Finite
    parameters: Count
