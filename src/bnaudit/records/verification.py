"""A converted model against a runtime that reads the file itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from bnaudit.records.values import Finite

UNCOMPARED = "could not be compared"
"""How a reason begins where a comparison was asked for and failed."""


@dataclass(frozen=True, slots=True)
class OutputGap:
    """How far one output is off on the first batch.

    Attributes:
        name: as the file has it.
        max_abs: largest difference of two entries; infinite where one of them alone is not finite,
            or where the shapes differ.
        relative: that over the output's scale: the largest entry of the reference, or 1 behind a final
            softmax or sigmoid, whose logits are compared too and count where they are further off; of
            decisions (an argmax, a comparison) how far apart, over their scale, the values are between
            which it was decided otherwise.
    """

    name: str
    max_abs: float
    relative: float


@dataclass(frozen=True, slots=True)
class Verification:
    """The outputs of the converted model, in inference mode, against those of a reference.

    Attributes:
        reference: "onnxruntime 1.32.0", "onnx.reference 1.23.2".
        tolerance: relative difference that rounding explains.
        outputs: of the file, in its order.
    """

    reference: str
    tolerance: Finite
    outputs: tuple[OutputGap, ...]

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        return max((gap.relative for gap in self.outputs), default=inf)

    @property
    def agrees(self) -> bool:
        """Whether every output is within the tolerance."""
        return self.worst <= self.tolerance
