"""Who reads whom among the layers of a report, and which channels of one another's are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report


def feeders(report: Report) -> dict[str, tuple[str, ...]]:
    """Label -> labels of the layers whose outputs reach it directly; the one called before where unknown."""
    found: dict[str, tuple[str, ...]] = {}
    before: tuple[str, ...] = ()
    for layer in report.layers:
        found[layer.label] = before if layer.reads is None else layer.reads
        before = (layer.label,)
    return found


def readers(report: Report) -> dict[str, tuple[str, ...]]:
    """Label -> labels of the layers that its output reaches directly."""
    found: dict[str, tuple[str, ...]] = {layer.label: () for layer in report.layers}
    for label, sources in feeders(report).items():
        for source in sources:
            if source in found:
                found[source] = (*found[source], label)
    return found


def told_at(
    layer: LayerReport,
    channels: Mapping[str, tuple[int, ...]],
    neighbours: Mapping[str, tuple[str, ...]],
    report: Report,
) -> str | None:
    """A neighbour of as many channels that shows the same ones, as behind a depthwise convolution.

    Args:
        layer: which.
        channels: label -> the channels that show something.
        neighbours: label -> the layers where it would come from.
        report: of these layers.
    """
    widths = {other.label: other.channels for other in report.layers}
    own = set(channels.get(layer.label, ()))
    return next(
        (
            other
            for other in neighbours.get(layer.label, ())
            if widths.get(other) == layer.channels and own <= set(channels.get(other, ()))
        ),
        None,
    )
