"""From the file's graph to an inference graph: functions inlined, training leftovers removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import NodeProto

from bnaudit.errors import InputError
from bnaudit.load.onnx.draft import Draft, set_attributes
from bnaudit.load.onnx.functions import all_nodes, inlined
from bnaudit.load.onnx.origin import Origin

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

_INFERENCE_MODE = {"training_mode": None, "is_test": None}


def prepare(path: Path, model: ModelProto) -> tuple[Draft, dict[str, Origin]]:
    """The draft to work on, and where each of its nodes comes from.

    Every node is renamed to a key that survives opset conversion (which drops metadata and has its
    own mind about empty names); the key leads to the origin.

    Args:
        path: the file, for messages.
        model: the parsed file; it is changed.
    """
    if model.functions:
        weights = list(model.graph.initializer)
        del model.graph.initializer[:]
        model.CopyFrom(inlined(path, model))
        model.graph.initializer.extend(weights)
    origins: dict[str, Origin] = {}
    for count, node in enumerate(all_nodes(model.graph.node)):
        if node.domain == "ai.onnx":
            node.domain = ""
        key = f"node{count}"
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        scopes = metadata.get("pkg.torch.onnx.name_scopes", "")
        eps = next((a.f for a in node.attribute if a.name == "epsilon"), None)
        origins[key] = Origin(node.op_type, node.name, tuple(node.input), scopes, eps)
        node.name = key
    # Recorded shapes carry the exported batch size, and contradict the graph once it is lifted.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    draft = Draft.of(path, model)
    if not draft.opset and not draft.domains:
        raise InputError(
            f"{path}: names no operator set", hint="damaged, or older than ONNX 1.0: export again"
        )
    drop_training(draft)
    draft.prune()
    return draft, origins


def drop_training(draft: Draft) -> None:
    """Dropout passes through, and BatchNorm keeps its first output only.

    Exports in training mode mark both; how BatchNorm is to be run is the audit's decision.
    """
    skipped: dict[str, str] = {}
    for node in draft.nodes:
        if node.op_type == "Dropout":
            skipped[node.output[0]] = node.input[0]
        elif node.op_type == "BatchNormalization":
            set_attributes(node, **_INFERENCE_MODE)
            del node.output[1:]
    bypass(draft, skipped)


def bypass(draft: Draft, skipped: dict[str, str]) -> None:
    """Lets readers of each value read its source; a graph output keeps its name by an Identity."""
    protected = draft.output_names()
    for node in draft.nodes:
        if node.output and node.output[0] in skipped and node.output[0] in protected:
            source = skipped.pop(node.output[0])
            identity = NodeProto(op_type="Identity", name=node.name)
            identity.input.append(source)
            identity.output.append(node.output[0])
            node.CopyFrom(identity)
    draft.redirect(skipped)
