"""Caffe's Scale layers back into the BatchNorm they complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft


def absorb_scales(draft: Draft) -> None:
    """Merges BN -> Mul(s) [-> Add(t)] with per-channel constants into one BatchNorm.

    Caffe splits BatchNorm in two layers: normalisation without parameters, then Scale. The network
    that was trained had  z = s*(gamma*x_hat + beta) + t,  so its gamma is gamma*s and its beta
    beta*s + t. Only where nothing else reads the values in between: anything else would change.
    """
    readers = draft.consumers()
    count = 0
    for node in draft.nodes:
        if node.op_type == "BatchNormalization" and all(
            n in draft.constants for n in node.input[1:]
        ):
            count += _absorb(draft, node, readers)
    if count:
        draft.prune()
        layers = "1 scale layer was" if count == 1 else f"{count} scale layers were"
        draft.notes.append(
            f"{layers} absorbed into the BatchNorm before it: gamma and beta are the products"
        )


def _absorb(draft: Draft, batchnorm: NodeProto, readers: dict[str, list[NodeProto]]) -> bool:
    gamma, beta = (draft.constants[name] for name in batchnorm.input[1:3])
    if gamma.ndim != 1 or gamma.shape != beta.shape:
        return False
    step = _sole_reader(draft, batchnorm, "Mul", readers)
    if step is None:
        return False
    node, scale = step
    kind = gamma.dtype
    gamma, beta = gamma.astype(np.float64) * scale, beta.astype(np.float64) * scale
    batchnorm.output[0] = node.output[0]
    node.output[0] += "/absorbed"
    step = _sole_reader(draft, batchnorm, "Add", readers)
    if step is not None:
        node, shift = step
        beta = beta + shift
        batchnorm.output[0] = node.output[0]
        node.output[0] += "/absorbed"
    for index, value in ((1, gamma), (2, beta)):
        name = f"{batchnorm.name}/absorbed_{index}"
        draft.constants[name] = value.astype(kind)
        batchnorm.input[index] = name
    return True


def _sole_reader(
    draft: Draft, batchnorm: NodeProto, op: str, readers: dict[str, list[NodeProto]]
) -> tuple[NodeProto, NDArray[np.float64]] | None:
    """The one node that reads the layer's output, and its constant as a vector over channels."""
    value = batchnorm.output[0]
    found = readers.get(value, [])
    if len(found) != 1 or found[0].op_type != op or value in draft.output_names():
        return None
    others = [name for name in found[0].input if name != value]
    rank = len(draft.shape(value) or draft.shape(batchnorm.input[0]) or ())
    if len(others) != 1 or others[0] not in draft.constants or rank < 2:
        return None
    constant = draft.constants[others[0]]
    channels = draft.constants[batchnorm.input[1]].size
    aligned = (1,) * (rank - constant.ndim) + constant.shape
    if len(aligned) != rank or aligned[1] != channels or constant.size != channels:
        return None
    return found[0], constant.reshape(channels).astype(np.float64)
