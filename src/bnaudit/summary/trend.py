"""What is concluded from a run: whether |gamma|/sigma fell, in which layers, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bnaudit.records.training import Course
from bnaudit.records.values import Count, Skipped
from bnaudit.summary.course import FEWEST

if TYPE_CHECKING:
    from bnaudit.records.training import LayerTrend, Trend

Verdict = Literal["fell", "rose", "mixed", "no clear trend", "too few checkpoints", "nothing"]

_UNITS = {"step": "step", "epoch": "epoch", "number": "", "order": "checkpoint"}


@dataclass(frozen=True, slots=True)
class TrendSummary:
    """The run in a few numbers.

    Attributes:
        verdict: of |gamma|/sigma: "mixed" where as many layers rise as fall and the network does neither.
        sentence: the verdict in words: where, how much, and when.
        read: checkpoints and lines that were read.
        left_out: those that were not.
        layers: BatchNorm layers.
        fell: layers whose |gamma|/sigma fell.
        rose: layers whose |gamma|/sigma rose.
    """

    verdict: Verdict
    sentence: str
    read: Count
    left_out: Count
    layers: Count
    fell: Count
    rose: Count


def course_of(layer: LayerTrend, trend: Trend) -> Course | Skipped:
    """The course of |gamma|/sigma that the verdict rests on."""
    return layer.gain if trend.network_of == "stored" else layer.batch_gain


def summarize(trend: Trend) -> TrendSummary:
    """The summary of a run."""
    courses = {layer.name: course_of(layer, trend) for layer in trend.layers}
    found = {name: c for name, c in courses.items() if isinstance(c, Course)}
    fell = {name: c for name, c in found.items() if c.direction == "fell"}
    rose = {name: c for name, c in found.items() if c.direction == "rose"}
    verdict = _verdict(trend, found, len(fell), len(rose))
    return TrendSummary(
        verdict=verdict,
        sentence=_sentence(trend, verdict, found, fell, rose),
        read=len(trend.read),
        left_out=len(trend.moments) - len(trend.read),
        layers=len(trend.layers),
        fell=len(fell),
        rose=len(rose),
    )


def _verdict(trend: Trend, found: dict[str, Course], fell: int, rose: int) -> Verdict:
    if not found:
        return "nothing"
    if max(c.values for c in found.values()) < FEWEST:
        return "too few checkpoints"
    whole = trend.network.direction if isinstance(trend.network, Course) else "none"
    if whole != "none":
        return whole
    if fell and rose:
        return "mixed"
    # Of single layers one in twenty is clear of its interval by chance.
    most = max(fell, rose)
    if 2 * most > len(found):
        return "fell" if fell else "rose"
    return "no clear trend"


def _sentence(
    trend: Trend,
    verdict: Verdict,
    found: dict[str, Course],
    fell: dict[str, Course],
    rose: dict[str, Course],
) -> str:
    if verdict == "nothing":
        return "no layer has two values of |gamma|/sigma to compare"
    network = trend.network
    if verdict == "too few checkpoints":
        most = max(c.values for c in found.values())
        told = f"{most} values of |gamma|/sigma are too few for a trend ({FEWEST} at least)"
        if isinstance(network, Course):
            told += f"; the middle layer went from {network.first:.3g} to {network.last:.3g}"
        return told
    parts = []
    if isinstance(network, Course):
        parts.append(_of_network(trend, network))
    else:
        parts.append(f"no |gamma|/sigma of the network over the run ({network.reason})")
    counts = [
        f"{word} in {len(some)} of {len(found)} layers{_most(some)}"
        for word, some in (("fell", fell), ("rose", rose))
        if some
    ]
    parts.append(" and ".join(counts) or f"no clear trend in any of {len(found)} layers")
    return "; ".join(parts)


def _of_network(trend: Trend, network: Course) -> str:
    """What became of the middle layer, and when."""
    interval = f"95 % interval ×{network.lower:.3g} to ×{network.upper:.3g}, tau {network.tau:.2f}"
    if network.direction == "none":
        return f"|gamma|/sigma of the middle layer has no clear trend ({interval})"
    told = (
        f"|gamma|/sigma of the middle layer {network.direction} from {network.first:.3g} to "
        f"{network.last:.3g} (×{network.change:.3g} along the trend; {interval})"
    )
    if network.half_at is not None:
        told += f", half of it by {place_text(trend, network.half_at)}"
    late = {
        "fell": "and still falls in the later half",
        "rose": "and still rises in the later half",
        "none": "and has no clear trend in the later half",
    }[network.late]
    if network.late not in ("none", network.direction):
        late = late.replace("and still", "but")
    return f"{told}, {late}"


def place_text(trend: Trend, place: float) -> str:
    """A place on the run's axis: "step 500"."""
    return (
        f"{_UNITS[trend.axis]} {place:g}".strip()
        if place < 1e6
        else f"{_UNITS[trend.axis]} {place:.0f}"
    )


def _most(some: dict[str, Course]) -> str:
    """The layer in which it changed most."""
    name, course = max(
        some.items(), key=lambda item: max(item[1].change, 1 / max(item[1].change, 1e-300))
    )
    return f" (most in {name}, ×{course.change:.3g})"
