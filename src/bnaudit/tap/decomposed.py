"""BatchNorm under the names that decomposed programs call it by.

`run_decompositions()` of an exported program leaves no `aten::batch_norm`, but one of the operators
below. Each gives the normalised tensor first; what stands behind it (saved statistics, which only
BatchNorm's own backward reads, and updated running statistics, which the audit does not keep) is
handed back in the shape that the graph expects.

They have kernels of their own for autograd, so `CompositeImplicitAutograd` would not be reached:
they are overridden on `Autograd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.tap.dispatch import Tap

KEY = "Autograd"

_TENSORS = ("x", "gamma", "beta", "running_mean", "running_var")
_LEGIT = (*_TENSORS, "training", "momentum", "eps")
_WITHOUT_FLAG = (*_TENSORS, "momentum", "eps")

# Operator -> its arguments, the training flag where it has none, and what it returns behind z:
# "s" a saved statistic, "m" and "v" the updated running mean and variance.
_OPERATORS: dict[str, tuple[tuple[str, ...], bool | None, str]] = {
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

NAMES = frozenset(_OPERATORS)


def overrides(tap: Tap) -> dict[str, Callable[..., tuple[Tensor | None, ...]]]:
    """Operator -> what stands in for it during a run."""
    return {
        name: _override(tap, *row)
        for name, row in _OPERATORS.items()
        if hasattr(torch.ops.aten, name.partition(".")[0])
    }


def _override(
    tap: Tap, names: tuple[str, ...], flag: bool | None, kinds: str
) -> Callable[..., tuple[Tensor | None, ...]]:
    def call(*values: Any) -> tuple[Tensor | None, ...]:
        given = dict(zip(names, values, strict=True))
        x, gamma, beta = given["x"], given["gamma"], given["beta"]
        mean, var = given.get("running_mean"), given.get("running_var")
        training = bool(given.get("training", flag))
        tensors = (mean, var, gamma, beta)
        if x.shape[0] == 1 and not tap.namer.owns(*tensors):
            z = tap.folded_instance_norm(x, *tensors, training, given["eps"])
        else:
            z = tap.batch_norm(
                x, gamma, beta, mean, var, training, given["momentum"], given["eps"], False
            )
        behind = {"s": x.new_empty(0), "m": _copy(mean), "v": _copy(var)}
        return (z, *(behind[kind] for kind in kinds))

    return call


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
