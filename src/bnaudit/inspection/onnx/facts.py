"""What a file says of itself, in the words in which an audit of it says so."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bnaudit.inspection.onnx.scale import LITERALS
from bnaudit.inspection.onnx.values import DTYPES, FLOATING
from bnaudit.load.onnx.origin import exporter_of
from bnaudit.records.model import TensorInfo

if TYPE_CHECKING:
    from bnaudit.inspection.onnx.messages import Model
    from bnaudit.inspection.onnx.net import Net
    from bnaudit.inspection.onnx.reading import Reading

_STATISTICS = (3, 4)

QUANTISED = frozenset(
    {
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        "QGemm",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QAttention",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "Quant",
        "IntQuant",
        "BipolarQuant",
    }
)

_OTHER_NORMS = {
    "GroupNormalization": "GroupNorm",
    "GroupNorm": "GroupNorm",
    "LayerNormalization": "LayerNorm",
    "SkipLayerNormalization": "LayerNorm",
    "RMSNormalization": "RMSNorm",
    "SimplifiedLayerNormalization": "RMSNorm",
    "SkipSimplifiedLayerNormalization": "RMSNorm",
    "MeanVarianceNormalization": "MeanVarianceNormalization",
    "LpNormalization": "LpNormalization",
    "LRN": "LRN",
}


def producer(model: Model) -> str | None:
    """'pytorch 2.13.0', or None where the file does not say."""
    return f"{model.producer} {model.producer_version}".strip() or None


def exporter(reading: Reading) -> str:
    """See `bnaudit.load.onnx.origin.exporter_of`."""
    nodes = ((node.name, node.metadata()) for node in reading.nodes)
    return exporter_of(reading.model.producer, reading.model.opsets, nodes)


def facts(reading: Reading, batchnorms: int) -> dict[str, str]:
    """Facts for the report, in the order in which an audit has them."""
    model = reading.model
    versions = {domain or "ai.onnx": str(version) for domain, version in model.opsets.items()}
    found = {
        "opset": versions.pop("ai.onnx", ""),
        "ir_version": str(model.ir_version),
        "exporter": exporter(reading),
        "nodes": str(reading.top_nodes),
    }
    found.update({f"opset of {name}": version for name, version in sorted(versions.items())})
    if model.domain:
        found["domain"] = model.domain
    if model.version:
        found["model_version"] = str(model.version)
    found["batchnorm_nodes"] = str(batchnorms)
    return {name: value for name, value in found.items() if value}


def signature(reading: Reading) -> tuple[tuple[TensorInfo, ...], tuple[str, ...]]:
    """The inputs that a caller must feed, and the names of the outputs."""
    inputs = tuple(
        TensorInfo(value.name, value.shape, DTYPES.get(value.kind))
        for value in reading.graph.inputs
        if value.name not in reading.initializers
    )
    return inputs, tuple(value.name for value in reading.graph.outputs)


def parameters(net: Net) -> int:
    """Elements of the stored floating tensors; running statistics are buffers and do not count."""
    buffers = {
        node.inputs[place]
        for node in net.reading.nodes
        if node.op == "BatchNormalization"
        for place in _STATISTICS
        if place < len(node.inputs)
    }
    stored = dict(net.reading.initializers)
    for node in net.reading.nodes:  # some exporters keep weights in Constant nodes
        tensor = net.stored(node.outputs[0]) if node.op in LITERALS and node.outputs else None
        if tensor is not None and tensor.size > 1:
            stored[node.outputs[0]] = tensor
    return sum(t.size for name, t in stored.items() if t.kind in FLOATING and name not in buffers)


def other_norms(net: Net) -> dict[str, int]:
    """Other normalisations by the name that authors know -> how often."""
    found: Counter[str] = Counter()
    for node in net.reading.nodes:
        if node.op in _OTHER_NORMS:
            found[_OTHER_NORMS[node.op]] += 1
        elif node.op == "InstanceNormalization":
            before = net.producer(node.inputs[0]) if node.inputs else None
            grouped = before is not None and before.op == "Reshape"
            found["GroupNorm" if grouped else "InstanceNorm"] += 1
        elif node.op == "Sqrt":
            found[_spelled_out(net, node.inputs[0] if node.inputs else "")] += 1
    del found[""]
    return dict(sorted(found.items()))


def _spelled_out(net: Net, value: str) -> str:
    """LayerNorm or RMSNorm from sqrt(mean(x^2) + eps) in single operators, else ""."""
    add = net.producer(value)
    if add is None or add.op != "Add":
        return ""
    mean = next((n for n in map(net.producer, add.inputs) if n and n.op == "ReduceMean"), None)
    power = net.producer(mean.inputs[0]) if mean is not None and mean.inputs else None
    if power is None or power.op not in {"Pow", "Mul"} or power.inputs[0] not in net.fed:
        return ""
    centred = net.producer(power.inputs[0])
    return "LayerNorm" if centred is not None and centred.op == "Sub" else "RMSNorm"
