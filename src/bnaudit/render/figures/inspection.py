"""The picture of an inspection: |gamma|/sigma as the file stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.figures.audit import GAIN, spread
from bnaudit.render.figures.figure import positive
from bnaudit.summary.gain import gain_of

if TYPE_CHECKING:
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.render.figures.audit import Box
    from bnaudit.render.figures.figure import Figure


def figures(report: InspectionReport) -> list[Figure]:
    """The one there is."""
    boxes: list[tuple[str, Box | None]] = []
    for layer in report.inspection.batchnorms:
        gain = gain_of(layer)
        box = None
        if not isinstance(gain, Skipped):
            box = (positive(gain.minimum), positive(gain.median), positive(gain.maximum))
        boxes.append((layer.name, box))
    return [spread(f"{GAIN} over the channels of each layer, as stored", boxes)]
