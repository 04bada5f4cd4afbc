"""BatchNorm parameters that cannot be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnaudit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_PARAMETERS = ("gamma", "beta", "running_mean", "running_var")


def check_batchnorms(draft: Draft, names: Mapping[str, str]) -> None:
    """Refuses parameters that do not fit each other; notes values that no training produces.

    Values are not refused: a variance of NaN is what the audit should report, not hide.

    Args:
        draft: the folded graph.
        names: node key -> layer name.
    """
    for node in draft.nodes:
        if node.op_type == "BatchNormalization" and not node.domain:
            layer = names.get(node.name, node.name)
            found = zip(_PARAMETERS, node.input[1:5], strict=False)
            parameters = {p: draft.constants[name] for p, name in found if name in draft.constants}
            if len(node.input) < 5:
                raise InputError(
                    f"{draft.path}: {layer}: BatchNormalization has {len(node.input)} of its 5 inputs",
                    hint="the file is damaged, or was edited by hand: export it again",
                )
            _check_lengths(draft, node, layer, parameters)
            draft.notes.extend(_oddities(layer, parameters))
            if len(parameters) < len(_PARAMETERS):
                draft.notes.append(f"{layer}: its parameters are computed while the model runs")


def _check_lengths(
    draft: Draft, node: NodeProto, layer: str, parameters: dict[str, NDArray[np.generic]]
) -> None:
    shape = draft.shape(node.input[0])
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    expected = channels if isinstance(channels, int) else None
    for name, array in parameters.items():
        if expected is None:
            expected = array.size
        if array.shape != (expected,):
            raise InputError(
                f"{draft.path}: {layer}: {name} has shape {list(array.shape)}, "
                f"but there are {expected} channels",
                hint="the file is damaged, or was edited by hand: export it again",
            )


def _oddities(layer: str, parameters: dict[str, NDArray[np.generic]]) -> list[str]:
    notes = []
    for name, array in parameters.items():
        values = np.asarray(array, dtype=np.float64)
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            notes.append(f"{layer}: {name} has {_of(bad, values.size)} that are NaN or infinite")
        if name == "running_var":
            negative = int(np.count_nonzero(values < 0))
            zero = int(np.count_nonzero(values == 0))
            if negative:
                notes.append(f"{layer}: running_var has {_of(negative, values.size)} below zero")
            if zero:
                notes.append(f"{layer}: running_var has {_of(zero, values.size)} that are zero")
    return notes


def _of(count: int, total: int) -> str:
    return f"{count} of {total} entries"
