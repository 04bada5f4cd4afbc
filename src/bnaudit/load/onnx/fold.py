"""Constant folding: shapes, axes and reparametrised weights become constants, BatchNorm never."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from bnaudit.load.onnx.draft import (
    Source,
    attributes,
    is_floating,
    may_be_merged,
    rename,
    set_attributes,
)
from bnaudit.load.onnx.evaluate import FOLDABLE, evaluate
from bnaudit.load.onnx.infer import infer
from bnaudit.load.onnx.prepare import bypass

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

    from bnaudit.load.onnx.draft import Draft

_ROUNDS = 8
"""Each round feeds newly known shapes into inference; real graphs settle within three."""

_RELAYOUTS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_CONSTANT_TYPES: dict[str, type[np.generic]] = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def fold_literals(draft: Draft) -> None:
    """Folds what follows without shapes: Constant nodes and arithmetic on them."""
    _fold_once(draft)


def fold(draft: Draft) -> None:
    """Folds until nothing changes, and leaves `draft.types` up to date."""
    for _ in range(_ROUNDS):
        infer(draft)
        if not _fold_once(draft):
            return
    infer(draft)


def _fold_once(draft: Draft) -> bool:
    """One pass in topological order; True where it may pay to infer shapes again."""
    kept: list[NodeProto] = []
    aliases: dict[str, str] = {}
    partial: dict[str, tuple[int | None, ...]] = {}
    nodes = _without_settled_ifs(draft)
    changed = len(nodes) != len(draft.nodes)
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = aliases.get(name, name)
        if node.op_type == "Identity" and not _is_merged(draft, node):
            aliases[node.output[0]] = node.input[0]
            kept.append(node)
            continue
        folded = _constant(draft, node, partial)
        if folded is None:
            kept.append(node)
        else:
            draft.constants.update(zip(node.output, folded, strict=False))
            _keep_source(draft, node)
            changed |= node.op_type != "Constant"
    draft.nodes = kept
    bypass(draft, aliases)
    draft.prune()
    return changed


def _is_merged(draft: Draft, node: NodeProto) -> bool:
    """Whether it copies an initializer that PyTorch's TorchScript exporter stored for two layers."""
    array = draft.constants.get(node.input[0])
    return node.input[0] in draft.sources and array is not None and may_be_merged(array)


def _keep_source(draft: Draft, node: NodeProto) -> None:
    """An initializer that only changes its layout or type is still that initializer."""
    source = draft.sources.get(node.input[0]) if node.input else None
    if source is None or node.op_type not in _RELAYOUTS:
        return
    name = node.output[0]
    if node.op_type == "Identity":
        draft.sources[name] = Source(name)
    elif node.op_type == "Transpose" and draft.constants[name].ndim == 2:
        permutation = attributes(node).get("perm", [1, 0])
        flipped = {"": "T", "T": ""}.get(source.layout, f"{source.layout}T")
        draft.sources[name] = source._replace(layout=flipped) if permutation == [1, 0] else source
    elif draft.constants[name].dtype.kind == "f":
        draft.sources[name] = source._replace(layout=name)


def _constant(
    draft: Draft, node: NodeProto, partial: dict[str, tuple[int | None, ...]]
) -> list[NDArray[np.generic]] | None:
    """The node's outputs where they do not depend on the input data, else None."""
    if node.domain:
        return None
    if node.op_type == "Constant":
        return _literal(node)
    if node.op_type == "Identity":
        return [draft.constants[node.input[0]]]
    if node.op_type == "CastLike":
        _resolve_cast_like(draft, node)
    if node.op_type == "Shape":
        return _shape(draft, node, partial)
    if node.op_type in {"Gather", "Slice"} and node.input[0] in partial:
        return _from_partial(draft, node, partial)
    known = all(name in draft.constants for name in node.input if name)
    return evaluate(draft, node) if known and node.op_type in FOLDABLE else None


def _literal(node: NodeProto) -> list[NDArray[np.generic]] | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            return [numpy_helper.to_array(attribute.t)]
        if attribute.name in _CONSTANT_TYPES:
            value = helper.get_attribute_value(attribute)
            return [np.array(value, dtype=_CONSTANT_TYPES[attribute.name])]
    return None


def _resolve_cast_like(draft: Draft, node: NodeProto) -> None:
    """CastLike(x, y) -> Cast(x) to the type of y, once that is known."""
    like = node.input[1]
    if like in draft.constants:
        kind = int(helper.np_dtype_to_tensor_dtype(draft.constants[like].dtype))
    elif like in draft.types:
        kind = draft.types[like].tensor_type.elem_type
    else:
        return
    if kind:
        node.op_type = "Cast"
        del node.input[1:]
        set_attributes(node, to=kind, saturate=None)


def _shape(
    draft: Draft, node: NodeProto, partial: dict[str, tuple[int | None, ...]]
) -> list[NDArray[np.generic]] | None:
    shape = draft.shape(node.input[0])
    if shape is None:
        return None
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    dims = shape[bounds.get("start", 0) : bounds.get("end")]
    partial[node.output[0]] = tuple(d if isinstance(d, int) else None for d in dims)
    return _known(partial[node.output[0]])


def _from_partial(
    draft: Draft, node: NodeProto, partial: dict[str, tuple[int | None, ...]]
) -> list[NDArray[np.generic]] | None:
    """Static entries picked from a shape that is not known entirely, for its batch size."""
    dims = partial[node.input[0]]
    picks = [
        [int(number) for number in np.ravel(draft.constants[name])]
        for name in node.input[1:]
        if name in draft.constants
    ]
    if len(picks) < len(node.input) - 1 or not all(picks):
        return None
    positions: NDArray[np.generic] = np.arange(len(dims))
    if node.op_type == "Gather":
        chosen = positions[np.asarray(draft.constants[node.input[1]], dtype=np.int64)]
    elif len(picks) > 1:
        step = picks[3][0] if len(picks) > 3 else 1
        chosen = positions[picks[0][0] : picks[1][0] : step]
    else:  # until opset 9 its bounds are attributes
        return None
    selected = tuple(dims[int(i)] for i in np.ravel(chosen))
    if np.ndim(chosen) == 1:
        partial[node.output[0]] = selected
    known = _known(selected)
    return None if known is None else [known[0].reshape(np.shape(chosen))]


def _known(dims: tuple[int | None, ...]) -> list[NDArray[np.generic]] | None:
    return None if None in dims else [np.array(dims, dtype=np.int64)]


def _without_settled_ifs(draft: Draft) -> list[NodeProto]:
    """The nodes, with each If whose condition is known replaced by the branch it takes.

    TorchScript exports squeeze() of a dynamic tensor as such an If. Branches stay in the file's
    operator set when the graph around them is raised: then they are kept, and run.
    """
    if draft.opset != draft.file_opset:
        return draft.nodes
    flat: list[NodeProto] = []
    for node in draft.nodes:
        condition = draft.constants.get(node.input[0]) if node.op_type == "If" else None
        if condition is None or condition.size != 1:
            flat.append(node)
            continue
        wanted = "then_branch" if bool(condition) else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == wanted)
        _make_names_unique(draft, branch, node.name)
        for tensor in branch.initializer:
            draft.constants[tensor.name] = numpy_helper.to_array(tensor)
            if is_floating(draft.constants[tensor.name]):
                draft.sources[tensor.name] = Source(tensor.name)
        flat.extend(branch.node)
        for inner, outer in zip(branch.output, node.output, strict=True):
            flat.append(helper.make_node("Identity", [inner.name], [outer], name=node.name))
    return flat


def _make_names_unique(draft: Draft, branch: GraphProto, key: str) -> None:
    """Branches of different nodes may use the same names for different values."""
    stored = [t for t in branch.initializer if t.name in draft.constants]
    computed = [name for node in branch.node for name in node.output if name]
    rename(branch, {name: f"{name}/{key}" for name in (*computed, *(t.name for t in stored))})
    for tensor in stored:
        tensor.name = f"{tensor.name}/{key}"
    for node in branch.node:
        for index, name in enumerate(node.output):
            node.output[index] = f"{name}/{key}" if name else ""
