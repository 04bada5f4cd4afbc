"""Shape inference without carrying the weights through it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from onnx import shape_inference

from bnaudit.load.onnx.converters import quantisers
from bnaudit.load.onnx.draft import SMALL

if TYPE_CHECKING:
    from bnaudit.load.onnx.draft import Draft


def infer(draft: Draft) -> None:
    """Fills `draft.types` with what follows from the inputs; what cannot be inferred stays out."""
    model = draft.to_model(limit=SMALL)
    for node in model.graph.node:
        if node.domain in quantisers.DOMAINS and node.op_type in quantisers.OPERATORS:
            node.op_type, node.domain = "Identity", ""  # what comes out is as large as what goes in
            del node.input[1:], node.attribute[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, ValueError, shape_inference.InferenceError):
        # An operator without a schema, or contradictory declarations: the converters that do need
        # a shape say so themselves, and name their node.
        inferred = model
    graph = inferred.graph
    draft.types = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}
