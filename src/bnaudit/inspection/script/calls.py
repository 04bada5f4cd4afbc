"""The BatchNorm calls in a walk through a TorchScript program, and what stands in front of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnaudit.inspection.operators import keeps_channels, onnx_name
from bnaudit.inspection.script.values import UNKNOWN, Constant, Node, Stored
from bnaudit.records.inspection import Feeder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.load.pickles.objects import StoredTensor

BATCH_NORM = "batch_norm"
_PASSES = {"contiguous", "detach", "clone", "to"}
_LONGEST_WAY = 12
_NO_END = 2**62
_PARTS = ("weight", "bias", "running_mean", "running_var")
# Operator -> place of its bias; the weight is argument 1. addmm has them in another order.
_WEIGHTED = {
    "conv1d": 2,
    "conv2d": 2,
    "conv3d": 2,
    "conv_transpose1d": 2,
    "conv_transpose2d": 2,
    "conv_transpose3d": 2,
    "_convolution": 2,
    "linear": 2,
    "matmul": -1,
}
_TRANSPOSED = 6


@dataclass(frozen=True, slots=True)
class BatchNormCall:
    """One call of `batch_norm`.

    Attributes:
        tensors: of weight, bias, running_mean and running_var those that the file stores.
        training, momentum, eps: the arguments where they are literals.
        node: the call.
    """

    tensors: dict[str, Stored]
    training: bool | None
    momentum: float | None
    eps: float | None
    node: Node


def batchnorm_calls(calls: Sequence[Node]) -> list[BatchNormCall]:
    """The calls, in the order of the inlined graph."""
    found = []
    for node in calls:
        if node.op != BATCH_NORM or len(node.args) < 8:
            continue
        tensors = {
            name: value
            for name, value in zip(_PARTS, node.args[1:5], strict=True)
            if isinstance(value, Stored)
        }
        training = _literal(node.args[5])
        momentum, eps = _number(node.args[6]), _number(node.args[7])
        found.append(
            BatchNormCall(
                tensors, training if type(training) is bool else None, momentum, eps, node
            )
        )
    return found


def feeder(call: Node) -> Feeder | None:
    """The convolution or linear layer whose result goes into a call, whole or a crop of its positions."""
    alone = True
    cut: list[int] = []
    node = call
    for _ in range(_LONGEST_WAY):
        source = _source(node)
        if source is None:
            return None
        alone = alone and source.readers == 1
        if source.op in _WEIGHTED:
            break
        axes = [] if source.op in _PASSES else _cropped(source)
        if axes is None:
            return None
        cut += axes
        node = source
    else:
        return None
    weight = source.args[1] if len(source.args) > 1 else None
    if not isinstance(weight, Stored):
        return None
    if not keeps_channels(cut, len(weight.tensor.shape) if "conv" in source.op else None):
        return None
    place = _WEIGHTED[source.op]
    bias = source.args[place] if 0 <= place < len(source.args) else Constant(None)
    known = isinstance(bias, (Stored, Constant))
    return Feeder(
        weight=weight.name,
        operator=onnx_name(source.op, transposed=is_transposed(source)),
        bias=isinstance(bias, Stored) if known else None,
        sole_reader=alone,
    )


def _source(node: Node) -> Node | None:
    """The call whose result is the first argument, if nothing has changed that in place since."""
    source = node.args[0] if node.args else None
    if not isinstance(source, Node) or source is UNKNOWN or node.reads != source.op:
        return None
    return source


def _cropped(node: Node) -> list[int] | None:
    """The axes along which a call leaves positions out; None for one that does anything else."""
    numbers = [_literal(value) for value in node.args[1:]]
    match node.op, numbers:
        case "narrow", [int(dim), *_]:
            return [dim]
        case "slice", [int(dim), start, end, *step]:
            whole = start in (None, 0) and (end is None or end >= _NO_END) and step in ([], [1])
            return [] if whole else [dim]
        case (("pad" | "constant_pad_nd"), [*_]):
            sizes = [_literal(v) for v in getattr(node.args[1], "members", ())]
            if all(type(size) is int and size <= 0 for size in sizes):
                return [-1 - place // 2 for place, size in enumerate(sizes) if size]
    return None


def is_transposed(node: Node) -> bool:
    """Whether a traced convolution is a transposed one."""
    return (
        node.op == "_convolution"
        and len(node.args) > _TRANSPOSED
        and _literal(node.args[_TRANSPOSED]) is True
    )


def preceded_by(call: Node) -> str | None:
    """The operator whose result a call reads, "input" for the network's; None where that is unclear."""
    while (source := _source(call)) is not None and source.op in _PASSES:
        call = source
    source = call.args[0] if call.args else None
    if not isinstance(source, Node) or not call.reads:
        return None
    if call.reads == "input":
        return "input"
    return onnx_name(call.reads, transposed=call.reads == source.op and is_transposed(source))


def is_weighted(node: Node) -> bool:
    """Whether a call is a convolution or linear layer."""
    return node.op in _WEIGHTED and len(node.args) > 1 and isinstance(node.args[1], Stored)


def has_bias(node: Node) -> bool:
    """Whether such a layer adds a bias."""
    place = _WEIGHTED[node.op]
    return 0 <= place < len(node.args) and isinstance(node.args[place], Stored)


def runs_on_batches(call: BatchNormCall) -> bool | None:
    """Whether a call normalises with the statistics of its batch: by its flag, or for want of others."""
    without = all(isinstance(a, Constant) and a.value is None for a in call.node.args[3:5])
    return True if without else call.training


def stored_tensor(call: BatchNormCall, part: str) -> StoredTensor | None:
    """One of the four tensors of a call."""
    found = call.tensors.get(part)
    return None if found is None else found.tensor


def _literal(value: Any) -> Any:
    return value.value if isinstance(value, Constant) else None


def _number(value: Any) -> float | None:
    number = _literal(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return None
    return float(number) if math.isfinite(number) else None
