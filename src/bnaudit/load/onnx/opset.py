"""Old operator sets up to the one that the converters are written for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from onnx import TypeProto, ValueInfoProto, numpy_helper, version_converter

from bnaudit.errors import InputError
from bnaudit.load.onnx.draft import SMALL, set_attributes
from bnaudit.load.onnx.fold import fold_literals
from bnaudit.load.onnx.infer import infer
from bnaudit.load.onnx.legacy import NUMPY_BROADCASTING, align_operands

if TYPE_CHECKING:
    from onnx import ModelProto

    from bnaudit.load.onnx.draft import Draft

BASE = 15
"""Converters cover every operator as of this version; newer ones are kept as they are."""

_RESIZE_WITH_MODES = 11


def raise_opset(draft: Draft) -> None:
    """Rewrites a draft below opset 15 as opset 15, with the constants that takes.

    The draft must be folded: the converter does not look into subgraphs, so that a branch of an If
    would keep its old operators. Adapters of legacy broadcasting want static shapes.

    Raises:
        InputError: an operator is so old that ONNX has no path from it.
    """
    was = draft.opset
    if was < NUMPY_BROADCASTING:
        align_operands(draft)
        infer(draft)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = version_converter.convert_version(_typed(draft), BASE)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        # The converter's own words, without the source paths of whoever built it.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = lines[-1].rpartition("failed: ")[2] if lines else ""
        reason = text[:120] or type(error).__name__
        raise InputError(
            f"{draft.path}: cannot be brought from opset {was} to {BASE} ({reason})",
            hint="export the network again with opset_version=17 or later",
        ) from error
    draft.nodes = list(model.graph.node)
    draft.opset = BASE
    for tensor in model.graph.initializer:
        if tensor.name not in draft.constants:
            draft.constants[tensor.name] = numpy_helper.to_array(tensor)
    if was < _RESIZE_WITH_MODES:
        # Resize and Upsample had no modes then: asymmetric coordinates, rounded down. The converter
        # leaves them out, and the defaults of opset 11 would make up to half of all outputs wrong.
        for node in draft.nodes:
            if node.op_type == "Resize":
                set_attributes(
                    node, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
                )
    fold_literals(draft)


def _typed(draft: Draft) -> ModelProto:
    """The graph with its inferred types: some adapters (Softmax) need the rank of their input."""
    model = draft.to_model(limit=SMALL)
    own = {value.name for value in (*model.graph.input, *model.graph.output)}
    for name, kind in draft.types.items():
        if name not in own and kind.HasField("tensor_type"):
            model.graph.value_info.append(ValueInfoProto(name=name, type=TypeProto()))
            model.graph.value_info[-1].type.CopyFrom(kind)
    return model
