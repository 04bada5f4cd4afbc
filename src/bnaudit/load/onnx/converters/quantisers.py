"""The quantisers of QONNX and Brevitas: numbers in steps, which training follows as if they were none.

    y = (round(clamp(x / scale + zero, low, high)) - zero) scale

Forward this is what the file says. Backward the rounding counts as the identity and the clamp as itself, the
straight-through estimator (Bengio, Leonard, Courville, arXiv 1308.3432) with which such networks are trained.
https://github.com/fastmachinelearning/qonnx/tree/main/docs/qonnx-custom-ops
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.load.onnx.converters.base import Converted, apply, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

DOMAINS = frozenset({"qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"})

NOTE = (
    "{} quantiser nodes ({}) run as straight-through estimators: forward as the file says, backward as if "
    "nothing were rounded"
)

_ROUNDINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "ROUND": torch.round,
    "HALF_EVEN": torch.round,
    "CEIL": torch.ceil,
    "FLOOR": torch.floor,
    "UP": lambda x: x.sign() * x.abs().ceil(),
    "DOWN": torch.trunc,
    "ROUND_TO_ZERO": torch.trunc,
    "HALF_UP": lambda x: x.sign() * (x.abs() + 0.5).floor(),
    "HALF_DOWN": lambda x: x.sign() * (x.abs() - 0.5).ceil(),
}


def integers(node: NodeProto, _: Draft) -> Converted:
    """IntQuant, which was called Quant: as many steps as its bits allow."""
    given = options(node)
    signed, narrow = int(given.get("signed", 1)), int(given.get("narrow", 0))
    mode = given.get("rounding_mode", "ROUND")
    name = (mode.decode() if isinstance(mode, bytes) else str(mode)).upper()
    if name not in _ROUNDINGS:
        raise NotImplementedError(f"its rounding mode {name}")

    def run(
        x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: torch.Tensor
    ) -> torch.Tensor:
        steps = 2.0 ** (bits.to(x.dtype) - signed)
        high = steps - 1 - narrow * (1 - signed)
        low = signed * (narrow - steps)
        inside = torch.minimum(torch.maximum(x / scale + zero, low), high)
        return (_straight(inside, _ROUNDINGS[name](inside)) - zero) * scale

    return apply(node, run)


def bipolar(node: NodeProto, _: Draft) -> Converted:
    """BipolarQuant: plus or minus the scale."""
    return apply(
        node, lambda x, scale: _straight(x, torch.where(x >= 0, 1.0, -1.0).to(x.dtype)) * scale
    )


def _straight(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`y` to the last digit, with the derivative of `x`."""
    return (x - x.detach()) + y.detach()


OPERATORS = {"IntQuant": integers, "Quant": integers, "BipolarQuant": bipolar}
