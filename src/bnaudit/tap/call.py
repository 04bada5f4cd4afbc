"""One intercepted call of `aten::batch_norm`, and the two ways to carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class BatchNormCall:
    """The arguments of one BatchNorm call, with the layer it belongs to.

    Attributes:
        name: the layer's name.
        occurrence: 1 for the layer's first call in this forward pass, 2 for its second, ...
        index: position among the BatchNorm calls of this forward pass, from 0.
        x: the input, (N, C) or (N, C, ...).
        gamma, beta: (C,) or None where the layer is not affine.
        running_mean, running_var: (C,) or None where the layer keeps no statistics.
        training: the flag the model passed.
        eps: the layer's eps.
    """

    name: str
    occurrence: int
    index: int
    x: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool
    eps: float

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the same call in every forward pass."""
        return (self.name, self.occurrence)

    @property
    def m(self) -> int:
        """Values per channel: batch size times spatial positions."""
        return self.x.numel() // max(self.x.shape[1], 1)


def differentiable(x: Tensor) -> Tensor:
    """`x` itself, or a leaf in its place where nothing in front of it is differentiated.

    With the parameters frozen no gradient would be formed at the first BatchNorm otherwise.
    """
    return x if x.requires_grad else x.detach().requires_grad_()


def aliased(x: Tensor) -> Tensor:
    """Another tensor at the same place, differentiable, with the same strides.

    `x.view_as(x)` changes the stride of a single image with the channels last, and PyTorch's backward of
    BatchNorm takes the gradient in the wrong order then.
    """
    found: Tensor = torch.ops.aten.alias.default(x)
    return found


def normalise(call: BatchNormCall, x: Tensor, mode: str) -> Tensor:
    """BatchNorm of `x` with the call's parameters; nothing of the model is written.

    Args:
        call: gives gamma, beta, eps and the running statistics.
        x: the input to normalise, usually a private alias of `call.x`.
        mode: "batch" uses the statistics of `x` whatever the stored flag says; "running" uses the
            stored ones, or the batch's where the layer keeps none, as the layer itself does.

    `native_batch_norm` is called rather than `batch_norm`: it does not come back to the override,
    and its autograd node is the same on every device.
    """
    gamma = None if call.gamma is None else call.gamma.detach()
    beta = None if call.beta is None else call.beta.detach()
    return _kernel(call, x, gamma, beta, stored=mode != "batch")[0]


def as_called(call: BatchNormCall) -> Tensor:
    """A call that is no layer: its gamma may depend on the data, and statistics are those of its input.

    Its flag says nothing, since an ONNX file's is lost, and what such a file stores for a call in training
    mode was filled in by the exporter.
    """
    return _kernel(call, call.x, call.gamma, call.beta, stored=False)[0]


def with_statistics(call: BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    """The same, with the mean and the biased variance that it normalised with, (C,) float64.

    The kernel keeps 1/sigma: var + eps comes back to the rounding of that, however small var is.
    """
    z, mean, invstd = _kernel(call, call.x, call.gamma, call.beta, stored=False)
    return z, mean.detach().double(), invstd.detach().double() ** -2 - call.eps


def as_given(call: BatchNormCall) -> Tensor:
    """A call with the running statistics it is given; its gamma and beta are differentiated too."""
    return _kernel(call, call.x, call.gamma, call.beta, stored=True)[0]


def _kernel(
    call: BatchNormCall, x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, stored: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the mean and 1/sigma that the kernel keeps of a batch."""
    stats: tuple[Tensor | None, Tensor | None] = (None, None)
    if stored and call.running_mean is not None and call.running_var is not None:
        # Autograd keeps them for backward; a model may update its own statistics before that.
        stats = (call.running_mean.clone(), call.running_var.clone())
    single = x.dim() > 3 and x.shape[0] == 1
    z, mean, invstd = torch.ops.aten.native_batch_norm.default(
        _ordered(x) if single else x, gamma, beta, *stats, stats[0] is None, 0.0, call.eps
    )
    output: Tensor = z
    if single and output.requires_grad:
        output.register_hook(_ordered)
    return output, mean, invstd


def _ordered(t: Tensor) -> Tensor:
    """One image in the usual order: of other strides of its batch axis PyTorch's backward makes nonsense."""
    return t.clone(memory_format=torch.contiguous_format)


def pulled_back(
    outputs: Sequence[Tensor],
    at: Sequence[Any],
    along: Sequence[Tensor],
    *,
    create: bool = False,
    retain: bool = False,
) -> list[Tensor | None]:
    """The gradient of sum <output, along> at tensors or edges of the graph, None where it is not reached.

    As a scalar: handed gradients of its own, autograd imports sympy to compare their shapes.

    Args:
        outputs: with a graph.
        at: where.
        along: one for each output.
        create: whether it is differentiable itself.
        retain: whether the graph is used again.
    """
    with torch.enable_grad():
        terms = [(y * a).sum() for y, a in zip(outputs, along, strict=True)]
        scalar = sum(terms[1:], terms[0])
    return list(
        torch.autograd.grad(
            scalar, list(at), create_graph=create, retain_graph=retain or create, allow_unused=True
        )
    )


def walk(*tensors: Tensor) -> Iterator[Any]:
    """Every node of the autograd graph behind some tensors, once."""
    visited: set[Any] = set()
    stack: list[Any] = [t.grad_fn for t in tensors]
    while stack:
        node = stack.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        yield node
        stack += [parent for parent, _ in node.next_functions]


def plain(mode: str) -> Callable[[BatchNormCall], Tensor]:
    """A handler that only normalises: for forward passes in which nothing is recorded."""
    return lambda call: normalise(call, call.x, mode)


_TENSORS = ("x", "gamma", "beta", "running_mean", "running_var")


_LEGIT = (*_TENSORS, "training", "momentum", "eps")


_WITHOUT_FLAG = (*_TENSORS, "momentum", "eps")


# Operator -> its arguments, the training flag where it has none, and what it returns behind z:
# "s" a saved statistic, "m" and "v" the updated running mean and variance.
DECOMPOSED: dict[str, tuple[tuple[str, ...], bool | None, str]] = {
    "_native_batch_norm_legit": (_LEGIT, None, "ss"),
    "_native_batch_norm_legit.no_stats": (
        ("x", "gamma", "beta", "training", "momentum", "eps"),
        None,
        "ss",
    ),
    "_native_batch_norm_legit_no_training": (_WITHOUT_FLAG, False, "ss"),
    "_native_batch_norm_legit_functional": (_LEGIT, None, "ssmv"),
    "_batch_norm_with_update": (_WITHOUT_FLAG, True, "sss"),
    "_batch_norm_with_update_functional": (_WITHOUT_FLAG, True, "sssmv"),
    "_batch_norm_no_update": (_WITHOUT_FLAG, False, "sss"),
}
