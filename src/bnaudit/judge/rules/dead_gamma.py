"""BN009: channels, or a whole layer, that gamma switches off."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import FEWEST, Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import (
    FIX_GAMMA,
    activations,
    affine_untouched,
    fixed_by_mxnet,
    largest,
    listed,
    statistics_untouched,
    without,
)
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import middle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.gamma]
    trained = [bn for bn in layers if not affine_untouched(bn)]  # placeholders set no standard
    level = middle([largest(bn.gamma) for bn in trained or layers])
    hits = [
        replace(hit, message=_MXNET + hit.message, fix=FIX_GAMMA)
        if fixed_by_mxnet(bn, inspection.producer)
        else hit
        for bn in layers
        if (hit := _whole(rule, bn, level, layers) or _some(rule, bn, level))
    ]
    yield from findings(rule, hits, len(layers), "have channels that gamma switches off")


_MXNET = "MXNet's fix_gamma=True trains with gamma 1, and its export wrote what is stored: "


def _whole(
    rule: Rule, bn: BatchNormStatics, level: float, layers: list[BatchNormStatics]
) -> Hit | None:
    """The layer as a whole: gamma 0 everywhere, or tiny beside that of the other layers."""
    top = largest(bn.gamma)
    count = len(bn.gamma or ())
    if not all(map(isfinite, bn.gamma or ())):
        return None  # BN006 tells of it, and the largest gamma is not known
    if top == 0:
        return _zero(bn, count)
    share = top / level if level else 1.0
    if len(layers) < FEWEST or share >= rule.limit("relative"):
        return None
    lost = share < rule.limit("lost")
    return Hit(
        bn.name,
        f"the largest |gamma| is {top:.1e}, {share:.0e} of what layers of this model have in the median: "
        f"{'nothing' if lost else 'next to nothing'} of its input comes through",
        Severity.ERROR if lost else rule.severity,
        share,
        rule.limit("relative"),
        tuple(range(count)),
        confidence="read from the file; a next layer with huge weights would undo it",
    )


def _zero(bn: BatchNormStatics, count: int) -> Hit:
    channels = tuple(range(count))
    if statistics_untouched(bn):
        return Hit(
            bn.name,
            f"gamma is 0 in all {count} channels and the statistics are as initialised, which is how "
            "residual branches may start",
            Severity.INFO,
            0.0,
            0.0,
            channels,
            fix="none for an untrained network; after training gamma should have moved",
        )
    return Hit(
        bn.name,
        f"gamma is 0 in all {count} channels: the layer's output is beta whatever its input is, and nothing "
        "before it is trained through it",
        Severity.ERROR,
        0.0,
        0.0,
        channels,
    )


def _some(rule: Rule, bn: BatchNormStatics, level: float) -> Hit | None:
    """Channels that are tiny beside the layer's largest, which one outlier must not set."""
    gamma = bn.gamma or ()
    top = min(largest(gamma), rule.limit("outlier") * level) if level else largest(gamma)
    limit = rule.limit("relative") * top
    if min(map(abs, gamma)) >= limit:  # not where the first is NaN
        return None
    channels = tuple(c for c, g in enumerate(gamma) if abs(g) < limit)
    if not channels:
        return None
    share = len(channels) / len(gamma)
    many = len(channels) > 1 and share > rule.limit("share") and not _chooses(bn)
    edited = not _chooses(bn) and _edited(bn, channels)
    fact = (
        f"gamma is exactly 0 in {len(channels)} of {len(gamma)} channels ({listed(channels)}) whose filters "
        "are alive, as an edit after training leaves it"
        if edited
        else f"|gamma| is below {rule.limit('relative'):g} of the layer's largest in {len(channels)} of "
        f"{len(gamma)} channels ({listed(channels)})"
    )
    on = sum(bn.beta[c] > 0 for c in channels if c < len(bn.beta)) if bn.beta else 0
    passing = (
        f"; {on} of them have beta above 0, a constant that a ReLU lets through" if bn.beta else ""
    )
    return Hit(
        bn.name,
        fact + passing,
        rule.severity if many or edited else Severity.INFO,
        share,
        rule.limit("share"),
        channels,
    )


def _edited(bn: BatchNormStatics, channels: tuple[int, ...]) -> bool:
    """Whether gamma is exactly 0 there and nowhere near it elsewhere, before a variance as others have it.

    Training gets to 0 in steps, over all sizes in between, and no gradient then keeps the filter alive.
    """
    gamma, variances = bn.gamma or (), bn.running_var or ()
    if len(variances) != len(gamma) or len(channels) >= _HALF * len(gamma):
        return False
    others = [c for c in range(len(gamma)) if c not in channels]
    alive = _ALIVE * middle([variances[c] for c in others])
    return all(gamma[c] == 0 and variances[c] > alive for c in channels) and min(
        abs(gamma[c]) for c in others
    ) > _CLEAR * largest(gamma)


_HALF, _ALIVE, _CLEAR = 0.5, 0.1, 0.02
"""Of the channels; of the others' median variance; of the largest gamma (survey: the smallest is 0.002)."""


def _chooses(bn: BatchNormStatics) -> bool:
    """Whether the layer reads what others read too: it may leave channels to them (DenseNet)."""
    own = bn.feeder is not None and bn.feeder.sole_reader
    return bn.preceded_by is not None and not own


def _not_applicable(subject: Inspection | Report) -> str | None:
    return without(subject, "gamma", "gamma") if isinstance(subject, Inspection) else None


def _sick() -> Inspection:
    gamma = tuple(
        1e-9 if c < 4 else g for c, g in enumerate(examples.statics("block1.bn").gamma or ())
    )
    return examples.changed("block1.bn", gamma=gamma)


RULE = Rule(
    id="BN009",
    name="dead-gamma",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Looks for channels that gamma switches off, and for layers where it does so everywhere.",
    why="With gamma at 0 a channel's output is beta, a constant; no gradient passes, so nothing before it "
    "learns from it again. A few such channels cost only their share of the compute. Many mean that weight "
    "decay or a sparsity penalty on gamma won, or that a learning rate was too high; a whole layer at 0 is a "
    "residual branch that never left its zero initialisation, or one that collapsed. Networks that were "
    "made sparse through gamma have dead channels on purpose: prune them, or set a larger share. A layer "
    "that reads what others read as well, behind a sum or a concatenation, may leave channels to them: an "
    "info. Before pruning look at beta: above 0 the constant passes a ReLU and belongs into the next layer's "
    "bias.",
    fix="prune the channels (adding beta's constant to the next layer's bias), or train again without weight "
    "decay on gamma",
    references=(
        "https://arxiv.org/abs/1708.06519",
        "https://github.com/Eric-mingjie/network-slimming/issues/46",
        "https://github.com/liuzhuang13/slimming/issues/5",
        "https://github.com/Eric-mingjie/rethinking-network-pruning/issues/24",
        "https://arxiv.org/abs/1706.02677",
    ),
    thresholds=(
        Threshold(
            "relative",
            1e-3,
            "|gamma| over the layer's largest |gamma|; of a whole layer, over the other layers' median",
            "survey: the smallest channel is at 0.0020 of its layer, the smallest layer at 0.055",
        ),
        Threshold(
            "share",
            0.2,
            "share of dead channels above which a layer warns; below it is an info",
            "survey: 0 in every layer; the two layers of DenseNet-121 in the onnx package reach 0.16",
        ),
        Threshold(
            "lost",
            1e-6,
            "a whole layer below this share of the others is an error",
            "float32 has 7 digits: beside anything it is added to, the layer's output is lost",
        ),
        Threshold(
            "outlier",
            10.0,
            "the layer's largest |gamma| counts up to this multiple of the other layers' median",
            "survey: at most 3.7; it keeps one exploded channel from making all others look dead",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
