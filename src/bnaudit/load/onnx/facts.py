"""What a file says of itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from onnx import helper

from bnaudit.load.model import Dim, InputSpec
from bnaudit.load.onnx.draft import dimension
from bnaudit.load.onnx.prepare import all_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ModelProto, ValueInfoProto

_DYNAMO_MARK = "pkg.torch"
_DYNAMO_NODE = re.compile(r"node_\w+_\d+")


def producer(model: ModelProto) -> str | None:
    """'pytorch 2.13.0', or None where the file does not say."""
    return f"{model.producer_name} {model.producer_version}".strip() or None


def facts(model: ModelProto) -> dict[str, str]:
    """Facts for the report, read before anything is rewritten."""
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    found = {
        "opset": str(versions.pop("ai.onnx", "")),
        "ir_version": str(model.ir_version),
        "exporter": exporter(model),
        "nodes": str(len(model.graph.node)),
    }
    found.update({f"opset of {name}": str(version) for name, version in sorted(versions.items())})
    if model.domain:
        found["domain"] = model.domain
    if model.model_version:
        found["model_version"] = str(model.model_version)
    return {name: value for name, value in found.items() if value}


def exporter(model: ModelProto) -> str:
    """Which exporter wrote the file; which remedies apply depends on it."""
    name = model.producer_name.lower()
    if name == "pytorch":
        return "torch.onnx dynamo" if _is_dynamo(model) else "torch.onnx TorchScript"
    if "tf2onnx" in name:
        return "tf2onnx"
    return "paddle2onnx" if "paddle" in name else "other"


def _is_dynamo(model: ModelProto) -> bool:
    """Optimisers drop the metadata that it writes, but keep the names that it gives to nodes."""
    if any(entry.domain.startswith(_DYNAMO_MARK) for entry in model.opset_import):
        return True
    return any(
        _DYNAMO_NODE.fullmatch(node.name)
        or any(entry.key.startswith(_DYNAMO_MARK) for entry in node.metadata_props)
        for node in all_nodes(model.graph.node)
    )


def input_specs(values: Iterable[ValueInfoProto]) -> tuple[InputSpec, ...]:
    """The signature as the file declares it."""
    return tuple(InputSpec(value.name, _shape(value), _dtype(value)) for value in values)


def _shape(value: ValueInfoProto) -> tuple[Dim, ...] | None:
    kind = value.type.tensor_type
    return tuple(dimension(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None


def _dtype(value: ValueInfoProto) -> str | None:
    try:
        return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except KeyError:
        return None
