"""The BatchNorm calls of an exported program, and what stands in front of them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from bnaudit.inspection.layers import Layer, counter, paired, statics, values
from bnaudit.inspection.named import groups, members
from bnaudit.inspection.operators import keeps_channels, onnx_name
from bnaudit.records.inspection import BatchNormStatics, Feeder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnaudit.inspection.program.graph import Graph, Operator
    from bnaudit.load.pickles.objects import StoredTensor

    Read = Callable[[StoredTensor], tuple[float, ...]]

_BATCH_NORM = re.compile(
    r"(_native_batch_norm_legit\w*|native_batch_norm|batch_norm|_batch_norm_with_update\w*|"
    r"_batch_norm_no_update|cudnn_batch_norm|miopen_batch_norm)$"
)
_CONVOLUTION = re.compile(r"_?conv(olution|\dd|_transpose\dd)$")
_GEMM = ("linear", "addmm", "mm", "matmul")
_PASSES = ("contiguous", "clone", "detach", "alias", "to", "_to_copy")
_LONGEST_WAY = 12
_NO_END = 2**62
_PARTS = ("weight", "bias", "running_mean", "running_var")


def is_batchnorm(operator: Operator) -> bool:
    """Whether a node is a BatchNorm, whole or decomposed by torch.export."""
    return operator.space == "aten" and bool(_BATCH_NORM.match(operator.op))


def is_weighted(operator: Operator) -> bool:
    """Whether a node is a convolution or linear layer."""
    return operator.space == "aten" and (
        bool(_CONVOLUTION.match(operator.op)) or operator.op in _GEMM
    )


def program_batchnorms(
    graph: Graph, tensors: Mapping[str, StoredTensor], read: Read
) -> tuple[BatchNormStatics, ...]:
    """One record a layer, in the order of the calls; then those that are never called."""
    found: dict[str, BatchNormStatics] = {}
    owners = _owners(tensors)
    for operator in graph.operators:
        if is_batchnorm(operator):
            index = len(found)
            names = {part: graph.source(operator.tensor(part)) for part in _PARTS}
            path = _path(operator, names, owners) or f"batch_norm_{index + 1}"
            parts = {
                part: tensors.get(name if name is not None else f"{path}.{part}")
                for part, name in names.items()
            }
            tracks = operator.tensor("running_mean") is not None
            training = operator.literal("training", "train") if tracks else True
            if "no_training" in operator.op:
                training = False
            mean = names["running_mean"]
            count = f"{mean.removesuffix('running_mean')}num_batches_tracked" if mean else ""
            layer = _statics(
                path,
                f"node {operator.gives[0] if operator.gives else operator.op} ({operator.op})",
                parts,
                tensors.get(count),
                read,
                eps=_number(operator.literal("eps", "epsilon")),
                # 0 is what an export in eval mode writes for momentum=None, the cumulative average.
                momentum=_number(operator.literal("momentum", "exponential_average_factor"))
                or None,
                training=training if type(training) is bool else None,
                feeder=feeder(operator, graph),
                preceded_by=preceded_by(operator, graph),
            )
            found[layer.name] = _merged(found.get(layer.name), layer)
    return (*found.values(), *_without_call(graph, found, tensors, read))


def _statics(
    name: str,
    origin: str,
    parts: Mapping[str, StoredTensor | None],
    count: StoredTensor | None,
    read: Read,
    **facts: Any,
) -> BatchNormStatics:
    known = [t for t in parts.values() if t is not None and len(t.shape) == 1]
    return BatchNormStatics(
        name=name,
        origin=origin,
        channels=known[0].shape[0] if known else None,
        dtype=known[0].dtype if known else None,
        batches_tracked=counter(count, read),
        gamma=values(parts["weight"], read),
        beta=values(parts["bias"], read),
        running_mean=values(parts["running_mean"], read),
        running_var=values(parts["running_var"], read),
        **facts,
    )


def _path(
    operator: Operator, names: Mapping[str, str | None], owners: Mapping[str, list[str]]
) -> str | None:
    """The first module that all tensors are registered in, else the innermost one around the call."""
    known = [owners.get(n, [n.rpartition(".")[0]]) for n in names.values() if n is not None]
    common = [path for path in known[0] if all(path in o for o in known)] if known else []
    if common:
        return common[0] or None
    return operator.stack[-1][0] or None if operator.stack else None


def _owners(tensors: Mapping[str, StoredTensor]) -> dict[str, list[str]]:
    """Name of a tensor -> the modules that have it, under whatever name."""
    places: dict[object, list[str]] = {}
    of: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.storage is not None:
            place = (tensor.storage, tensor.offset, tensor.shape)
            of[name] = places.setdefault(place, [])
            of[name].append(name.rpartition(".")[0])
    return of


def _merged(first: BatchNormStatics | None, again: BatchNormStatics) -> BatchNormStatics:
    """A layer that is called twice has a feeder only if it is the same both times."""
    if first is None:
        return again
    from dataclasses import replace

    return replace(
        first,
        feeder=first.feeder if first.feeder == again.feeder else None,
        preceded_by=first.preceded_by if first.preceded_by == again.preceded_by else None,
    )


def _without_call(
    graph: Graph,
    called: Mapping[str, BatchNormStatics],
    tensors: Mapping[str, StoredTensor],
    read: Read,
) -> list[BatchNormStatics]:
    """Layers whose statistics no call has: those that are never run, and arithmetic of one's own."""
    used = {graph.targets[n] for op in graph.operators for n in op.reads if n in graph.targets}
    # Another normalisation may keep running statistics too: InstanceNorm does.
    normalising = [op for op in graph.operators if is_batchnorm(op) or "_norm" in op.op]
    in_calls = {graph.source(name) for op in normalising for name in op.reads}
    found = []
    for group in groups(tensors).values():
        own = members(tensors, group)
        names = set(group.roles.values())
        if group.prefix in called or names & in_calls or paired(own) is None:
            continue
        if group.roles["mean"] not in graph.buffers and not names & used:
            continue
        how = ARITHMETIC if names & used else ", never read"
        layer = Layer(group.prefix, "BatchNorm", "", own)
        name = group.prefix or "BatchNorm"
        found.append(statics(layer, name, f"tensors {group.prefix}.*{how}", read))
    return found


ARITHMETIC = " in arithmetic of the network's own"


def feeder(operator: Operator, graph: Graph) -> Feeder | None:
    """The convolution or linear layer whose result goes into a call, whole or a crop of its positions."""
    alone = True
    cut: list[int] = []
    for _ in range(_LONGEST_WAY):
        maker = graph.makers.get(operator.reads[0]) if operator.reads else None
        if maker is None or operator.input_op != maker.op:
            return None
        alone = alone and graph.readers.get(operator.reads[0], 0) == 1
        if is_weighted(maker):
            break
        axes = [] if maker.op in _PASSES else _cropped(maker)
        if axes is None:
            return None
        cut += axes
        operator = maker
    else:
        return None
    weight = graph.source(maker.tensor("weight", "mat2", "other"))
    if weight is None or not keeps_channels(cut, graph.rank(operator.reads[0])):
        return None
    bias = maker.tensor("bias", "self") if maker.op in ("addmm",) else maker.tensor("bias")
    return Feeder(weight, _name(maker), bias is not None, alone)


def _cropped(operator: Operator) -> list[int] | None:
    """The axes along which a node leaves positions out; None for one that does anything else."""
    if operator.op in ("slice", "narrow"):
        start, end, dim = (operator.literal(name) for name in ("start", "end", "dim"))
        whole = operator.op == "slice" and not start and (end is None or end >= _NO_END)
        return [] if whole and operator.literal("step") in (None, 1) else [dim or 0]
    sizes = operator.args.get("pad", {}).get("as_ints")
    if isinstance(sizes, list) and all(type(size) is int and size <= 0 for size in sizes):
        return [-1 - place // 2 for place, size in enumerate(sizes) if size]
    return None


def preceded_by(operator: Operator, graph: Graph) -> str | None:
    """The operator whose result a call reads, "input" for the network's own input."""
    maker = graph.makers.get(operator.reads[0]) if operator.reads else None
    while maker is not None and maker.op == operator.input_op and maker.op in _PASSES:
        operator, maker = maker, graph.makers.get(maker.reads[0]) if maker.reads else None
    if operator.input_op:
        same = maker is not None and maker.op == operator.input_op
        return _name(maker) if maker is not None and same else onnx_name(operator.input_op)
    return "input" if operator.reads and operator.reads[0] in graph.inputs else None


def _name(operator: Operator) -> str:
    if is_batchnorm(operator):
        return "BatchNormalization"
    transposed = operator.literal("transposed") is True
    return onnx_name(operator.op, transposed=transposed)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
