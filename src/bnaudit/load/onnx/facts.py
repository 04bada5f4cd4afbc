"""What a file says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from bnaudit.load.model import InputSpec
from bnaudit.load.onnx.draft import dimension
from bnaudit.load.onnx.functions import all_nodes
from bnaudit.load.onnx.origin import exporter_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ModelProto, ValueInfoProto


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
    """See `bnaudit.load.onnx.origin.exporter_of`."""
    nodes = ((n.name, (e.key for e in n.metadata_props)) for n in all_nodes(model.graph.node))
    return exporter_of(model.producer_name, (e.domain for e in model.opset_import), nodes)


def input_specs(values: Iterable[ValueInfoProto]) -> tuple[InputSpec, ...]:
    """The signature as the file declares it."""
    specs = []
    for value in values:
        kind = value.type.tensor_type
        shape = tuple(dimension(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None
        try:
            dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
        except KeyError:
            specs.append(InputSpec(value.name, shape))
        else:
            specs.append(InputSpec(value.name, shape, dtype))
    return tuple(specs)
