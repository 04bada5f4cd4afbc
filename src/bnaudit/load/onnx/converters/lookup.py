"""Finding the converter of a node, ours first, then onnx2torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import helper, numpy_helper

from bnaudit.load.onnx.converters import quantisers
from bnaudit.load.onnx.converters.base import Converted
from bnaudit.load.onnx.converters.table import OWN, SAME_SINCE_15
from bnaudit.load.onnx.vision_stub import import_onnx2torch

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_FALLBACK_VERSIONS = (16, 15)


def convert_node(node: NodeProto, draft: Draft) -> Converted:
    """One node as a module.

    Raises:
        NotImplementedError: no converter covers the operator, or not this use of it.
    """
    if not node.domain and node.op_type in OWN:
        return OWN[node.op_type](node, draft)
    if node.domain in quantisers.DOMAINS and node.op_type in quantisers.OPERATORS:
        return quantisers.OPERATORS[node.op_type](node, draft)
    return _by_onnx2torch(node, draft)


def is_translated(operator: str, version: int) -> bool:
    """Whether an operator of ONNX itself has a converter; uses of it may still be refused."""
    if operator in OWN:
        return True
    try:
        _find(import_onnx2torch(), operator, "", version)
    except NotImplementedError:
        return False
    return True


def _by_onnx2torch(node: NodeProto, draft: Draft) -> Converted:
    library = import_onnx2torch()
    version = draft.domains.get(node.domain, 0) if node.domain else draft.opset
    module, mapping = _find(library, node.op_type, node.domain, version)(
        library.node(node, unique_name=node.name), _graph(library, node, draft)
    )
    return Converted(module, tuple(mapping.inputs))


def _find(library: Any, operator: str, domain: str, version: int) -> Any:
    versions = [version]
    if not domain and operator in SAME_SINCE_15:
        versions += [older for older in _FALLBACK_VERSIONS if older < version]
    for candidate in versions:
        try:
            return library.converter(operator, candidate, domain)
        except NotImplementedError:
            continue
    raise NotImplementedError("the operator has no converter")


def _graph(library: Any, node: NodeProto, draft: Draft) -> Any:
    """The graph as far as onnx2torch's converters look: types and constants next to the node."""
    constants = [
        numpy_helper.from_array(draft.constants[name], name)
        for name in dict.fromkeys(node.input)
        if name in draft.constants
    ]
    values = [
        helper.make_value_info(name, draft.types[name])
        for name in dict.fromkeys((*node.input, *node.output))
        if name in draft.types
    ]
    return library.graph(helper.make_graph([node], "node", [], [], constants, value_info=values))
