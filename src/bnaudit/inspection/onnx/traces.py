"""What folding a BatchNorm into a convolution leaves behind in a file; each exporter leaves its own.

Each trace was seen in files that the tool wrote, or (tf2onnx, Ultralytics) stands in the code with which it
writes them. Where nothing is left, nothing is claimed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.inspection.absent import reparameterised
from bnaudit.inspection.onnx.facts import exporter
from bnaudit.inspection.onnx.net import WEIGHTED, metadata_scopes
from bnaudit.load.onnx.names import keras_layers, module_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.inspection.onnx.net import Net

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Trace:
    """Evidence that BatchNorm was folded.

    Attributes:
        tool: which tool did it, a key of `remedies.KEEP`.
        layers: what is known to have been folded: names of the BatchNorm layers, or of the layers
            that they were folded into.
        clause: the evidence, for a person.
    """

    tool: str
    layers: tuple[str, ...]
    clause: str


def traces(net: Net) -> list[Trace]:
    """All traces, strongest first."""
    return [trace for find in _FINDERS if (trace := find(net)) is not None]


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 layer", "2 layers"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _dynamo(net: Net) -> Trace | None:
    """The exporter notes at each node the rules that rewrote it, and the module it came from."""
    layers, rules = [], set()
    for node in net.weight_layers:
        notes = node.metadata()
        rule = notes.get("pkg.onnxscript.rewriter.rule_name", "")
        rules.update(re.findall(r"FuseBatchNorm\w*", rule))
        source = notes.get("pkg.torch.onnx.fx_node", "").partition("(args")[0]
        if "FuseBatchNorm" in rule or "batch_norm" in source:
            layers.append(module_of(metadata_scopes(node)) or node.name)
    if not layers:
        return None
    note = " and ".join(sorted(rules)) or "aten batch_norm"
    return Trace(
        "dynamo",
        tuple(layers),
        f"the exporter left its note {note} at {plural(len(layers), 'layer')} with weights: {some(layers)}",
    )


def _onnxsim(net: Net) -> Trace | None:
    """From 0.8 on it lists the nodes that it removed."""
    removed = net.reading.model.metadata.get("onnxsim.removed_nodes", "")
    nodes = re.findall(r"BatchNormalization \(([^()]*)\)", removed)
    if not nodes:
        return None
    return Trace(
        "onnxsim",
        tuple(nodes),
        f"onnxsim noted that it removed {plural(len(nodes), 'BatchNormalization node')}: {some(nodes)}",
    )


_ORT_PREFIXES = ("ConvBnFusion_BN_B_", "MatMulBnFusion_GemmB_")


def _onnxruntime(net: Net) -> Trace | None:
    """It names what it computed: after the BatchNorm's bias, or after the weight of the product."""
    found = [
        (p, n.removeprefix(p))
        for n in net.reading.initializers
        for p in _ORT_PREFIXES
        if n.startswith(p)
    ]
    layers = sorted({name.removesuffix(".bias").removesuffix(".weight") for _, name in found})
    if not layers:
        return None
    prefixes = " and ".join(f"{prefix}..." for prefix in dict.fromkeys(p for p, _ in found))
    return Trace(
        "onnxruntime",
        tuple(layers),
        f"{plural(len(layers), 'initializer')} named {prefixes}, which ONNX Runtime's optimiser "
        f"writes: {some(layers)}",
    )


def _nchwc(net: Net) -> Trace | None:
    """Its layout optimiser turns a BatchNorm that nothing absorbs into a 1x1 depthwise convolution."""
    suffix = "_bn_nchwc"
    nodes = [n.name.removesuffix(suffix) for n in net.weight_layers if n.name.endswith(suffix)]
    if not nodes:
        return None
    return Trace(
        "onnxruntime",
        tuple(nodes),
        f"{plural(len(nodes), 'convolution')} named ...{suffix}, which ONNX Runtime makes of "
        f"BatchNormalization: {some(nodes)}",
    )


def _tf2onnx(net: Net) -> Trace | None:
    suffix = "_weights_fused_bn"
    stored = [n for n in net.reading.initializers if suffix in n]
    if not stored:
        return None
    layers = tuple(name.partition(suffix)[0] for name in stored)
    return Trace(
        "tf2onnx",
        layers,
        f"{plural(len(layers), 'weight')} named ...{suffix}, which tf2onnx writes when it folds: "
        f"{some(layers)}",
    )


def _tensorflow(net: Net) -> Trace | None:
    """Its operators are named after the layer that they are of; TFLite joins the names of all it fused."""
    layers: dict[str, None] = {}
    joined = 0
    for node in net.weight_layers:
        stored = [n for n in node.inputs[1:] if net.stored(n) is not None]
        own = [node.name, *node.outputs]
        adding = net.sole_reader(node.outputs[0]) if "MatMul" in node.op else None
        if adding is not None and adding.op == "Add":  # the bias of a dense layer
            own += [n for n in adding.inputs if net.stored(n) is not None]
        text = ";".join([*own, *stored])
        joined += any(";" in name for name in own)
        layers.update(dict.fromkeys(keras_layers(text)))
    if not layers:
        return None
    told = "layers with weights, or what they hold, are named after"
    if joined:
        told = "TFLite joined the names of layers with weights, as it does when it fuses, with those of"
    names = f"{plural(len(layers), 'BatchNormalization layer')}: {some(list(layers))}"
    return Trace("tflite" if joined else "keras", tuple(layers), f"{told} {names}")


def _ultralytics(net: Net) -> Trace | None:
    """Its exporter calls model.fuse() before every export; the file looks as if there never was one."""
    if net.reading.model.metadata.get("author") != "Ultralytics":
        return None
    biased = [node for node in net.weight_layers if "Conv" in node.op and len(node.inputs) > 2]
    if not biased:
        return None
    return Trace(
        "ultralytics",
        (),
        "its metadata names Ultralytics as the author, whose exporter fuses Conv and BatchNorm before "
        f"the export; {plural(len(biased), 'convolution')} with a bias",
    )


_NUMBERED = re.compile(r"(onnx::Conv_)?\d+")


def _torchscript(net: Net) -> Trace | None:
    """What the exporter computes has a number for a name; what it leaves alone keeps its own."""
    if exporter(net.reading) != "torch.onnx TorchScript":
        return None
    layers = [
        node
        for node in net.weight_layers
        if "Conv" in node.op
        and len(node.inputs) > 2
        and all(_NUMBERED.fullmatch(name) for name in node.inputs[1:3])
    ]
    named = [n for n in net.reading.initializers if n.endswith((".weight", ".bias"))]
    if not layers or not named:
        return None
    names = [_path(node.name) or node.name or node.outputs[0] for node in layers]
    return Trace(
        "torchscript",
        tuple(names),
        f"{plural(len(layers), 'convolution')} ({some(names)}) whose weight and bias the exporter "
        f"computed ({layers[0].inputs[1]}, {layers[0].inputs[2]}), as it does when it folds a BatchNorm; "
        f"what it leaves alone keeps its name ({named[0]})",
    )


def _path(name: str) -> str:
    """'/layer1/layer1.0/conv1/Conv' -> 'layer1.0.conv1'."""
    parts: list[str] = []
    for part in name.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


_TELLING = re.compile(r"batch_?norm|fused_?bn|(^|[./])bn\d*([./]|$)", re.IGNORECASE)


def _names(net: Net) -> Trace | None:
    """A convolution whose output still has the name that the BatchNorm behind it gave."""
    found: dict[str, str] = {}
    slim = 0
    for node in net.weight_layers:
        named = (o for o in node.outputs if _TELLING.search(o) and not keras_layers(o))
        output = next(named, "")
        # onnxslim names the weight that it computed after the output, which the BatchNorm had named.
        named_after = next((o for o in node.outputs if node.inputs[1:2] == [f"{o}_weight"]), "")
        if output or named_after:
            found[_path(output) or output or named_after] = output or named_after
            slim += bool(named_after)
    if not found:
        return None
    return Trace(
        "onnxslim" if slim else "optimiser",
        tuple(found),
        f"the output of {plural(len(found), 'layer')} with weights has the name of a BatchNorm's: "
        f"{some(list(found.values()))}",
    )


_STATISTICS = re.compile(
    r"(.+)[./](running_mean|running_var|num_batches_tracked|moving_mean|moving_variance)"
)


def _left_over(net: Net) -> Trace | None:
    """Running statistics that are stored, that nothing reads, and whose layer is not there any more."""
    present = {
        name.rpartition(".")[0]
        for node in net.reading.nodes
        if node.op == "BatchNormalization"
        for name in node.inputs
    }
    found = [
        match[1]
        for name in net.reading.initializers
        if (match := _STATISTICS.fullmatch(name)) and not net.readers.get(name)
    ]
    layers = tuple(dict.fromkeys(layer for layer in found if layer not in present))
    if not layers:
        return None
    return Trace(
        "optimiser",
        layers,
        f"running statistics of {plural(len(layers), 'layer')} are stored and nothing reads them: "
        f"{some(layers)}",
    )


def _reparameterised(net: Net) -> Trace | None:
    """The blocks of RepVGG, MobileOne and their like, by the name of the one convolution left of each."""
    names = [n.inputs[WEIGHTED[n.op]] for n in net.weight_layers]
    told = reparameterised([*names, *(_path(n.name) for n in net.weight_layers)])
    return None if told is None else Trace("reparameterised", (), told.evidence[0])


_FINDERS: tuple[Callable[[Net], Trace | None], ...] = (
    _dynamo,
    _onnxsim,
    _onnxruntime,
    _nchwc,
    _tf2onnx,
    _tensorflow,
    _torchscript,
    _ultralytics,
    _names,
    _left_over,
    _reparameterised,
)
