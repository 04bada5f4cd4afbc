"""ONNX files: the protobuf is walked in place, so neither onnx nor the weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.inspection.layers import own_forms, own_notes
from bnaudit.inspection.onnx.absence import absence
from bnaudit.inspection.onnx.decomposed import decomposed_norms
from bnaudit.inspection.onnx.facts import facts, other_norms, parameters, producer, signature
from bnaudit.inspection.onnx.layers import OP, batchnorm_layers, own_layers
from bnaudit.inspection.onnx.net import Net
from bnaudit.inspection.onnx.reading import opened
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.inspection import BatchNormStatics

__all__ = ["inspect_onnx"]


def inspect_onnx(path: Path) -> Inspection:
    """What an ONNX file stores of its BatchNorm layers.

    Layers have the names that an audit of the file gives them, and a Scale layer behind one is part
    of its gamma and beta, as in an audit.

    Args:
        path: the file. External weights are read from its own folder only.

    Raises:
        InputError: the file is damaged, has no graph, or its weights are missing.
    """
    with opened(path) as reading:
        net = Net(reading)
        layers, calls = batchnorm_layers(net)
        own = own_layers(net)
        taken = {layer.name for layer in own}
        decomposed = [norm for norm in decomposed_norms(net) if norm.name not in taken]
        norms = other_norms(net)
        inputs, outputs = signature(reading)
        in_arithmetic = own_forms((x.name, "arithmetic of the network's own") for x in own)
        told = in_arithmetic if own and not layers else None
        return Inspection(
            path=str(path),
            kind="onnx",
            producer=producer(reading.model),
            facts=facts(reading, sum(node.op == OP for node in reading.nodes)),
            size=reading.size,
            parameters=parameters(net),
            inputs=inputs,
            outputs=outputs,
            batchnorms=(*layers, *own),
            decomposed=tuple(decomposed),
            other_norms=norms,
            weight_layers=len(net.weight_layers),
            absence=told or absence(net, [layer.name for layer in layers], decomposed, norms),
            notes=(
                *_notes(layers, calls),
                *own_notes(in_arithmetic),
            ),
        )


def _notes(layers: list[BatchNormStatics], calls: dict[str, int]) -> list[str]:
    notes = []
    absorbed = sum(layer.scale_absorbed for layer in layers)
    if absorbed:
        what = "1 scale layer is" if absorbed == 1 else f"{absorbed} scale layers are"
        notes.append(
            f"{what} counted into the BatchNorm before it: gamma and beta are the products"
        )
    notes += [f"{name} is called {count} times" for name, count in calls.items()]
    computed = [layer.name for layer in layers if layer.running_var is None]
    if computed:
        notes.append(
            f"{len(computed)} with parameters that are computed while the model runs: {computed[0]}"
            + (", ..." if len(computed) > 1 else "")
        )
    weights = sum(layer.of_weights is True for layer in layers)
    if weights:
        notes.append(
            f"{weights} of the BatchNormalization nodes normalise a weight (weight standardisation), "
            "no activation"
        )
    return notes
