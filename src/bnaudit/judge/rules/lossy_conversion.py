"""BN017: traces of a conversion between frameworks that lost something."""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import FEWEST
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import FIX_GAMMA, activations, fixed_by_mxnet, statistics_untouched
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import ASSUMED_EPS, eps_of, middle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_KERAS = ("keras", "tensorflow", "tf2onnx", "tflite")
_SUGGESTED = "suggested by the values; the file alone cannot prove it"


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    yield from _stored_beside_fixed(rule, inspection)
    layers = [
        bn for bn in activations(inspection) if bn.running_var and not statistics_untouched(bn)
    ]
    if len(layers) < FEWEST:
        return
    yield from _scaled_statistics(rule, layers)
    yield from _fixed_gamma(rule, layers)
    yield from _reset_eps(rule, inspection, layers)


def _scaled_statistics(rule: Rule, layers: list[BatchNormStatics]) -> Iterator[Finding]:
    """Mean and variance multiplied by F raise |mean|/sigma by sqrt(F), in every layer alike."""
    offsets = []
    for bn in layers:
        pairs, eps = zip(bn.running_mean or (), bn.running_var or (), strict=False), eps_of(bn)
        offsets.append(
            middle([abs(mean) / sqrt(var + eps) for mean, var in pairs if 0 < var + eps < inf])
        )
    limit = rule.limit("offset")
    usual = middle(offsets)
    if usual <= limit:
        return
    yield rule.finding(
        f"the median channel's |running_mean| is {usual:.1f} running deviations in the median of "
        f"{len(layers)} layers: mean and variance look as if they were multiplied by a common factor, as "
        "Caffe stores them",
        observed=usual,
        threshold=limit,
        confidence=_SUGGESTED,
    )


def _fixed_gamma(rule: Rule, layers: list[BatchNormStatics]) -> Iterator[Finding]:
    affine = [bn for bn in layers if bn.gamma]
    if len(affine) < FEWEST or not all(g == 1 for bn in affine for g in bn.gamma or ()):
        return
    if not any(b != 0 for bn in affine for b in bn.beta or ()):
        return
    yield rule.finding(
        f"gamma is exactly 1 in all {len(affine)} layers while beta was trained",
        severity=Severity.INFO,
        observed=1.0,
        threshold=1.0,
        confidence="exact; Keras' scale=False and MXNet's fix_gamma=True look so on purpose",
        fix="none if the network was trained with scale=False or fix_gamma=True; otherwise convert gamma too",
    )


def _stored_beside_fixed(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    """Zeros are the affair of BN009, whatever wrote them."""
    for bn in activations(inspection):
        if fixed_by_mxnet(bn, inspection.producer) and bn.gamma and bn.gamma[0] != 0:
            yield rule.finding(
                f"gamma is {bn.gamma[0]:.3g} in every channel, and MXNet, which wrote the file, trains with "
                "gamma 1 under fix_gamma=True whatever is stored",
                layer=bn.name,
                channels=tuple(range(len(bn.gamma))),
                observed=bn.gamma[0],
                threshold=1.0,
                confidence=_SUGGESTED,
                fix=FIX_GAMMA,
            )


def _reset_eps(
    rule: Rule, inspection: Inspection, layers: list[BatchNormStatics]
) -> Iterator[Finding]:
    producer = (inspection.producer or "").lower()
    if not any(name in producer for name in _KERAS):
        return
    if not all(bn.eps is not None and abs(bn.eps / ASSUMED_EPS - 1) < 1e-4 for bn in layers):
        return
    yield rule.finding(
        f"eps is {ASSUMED_EPS:g} in all {len(layers)} layers of a file from {inspection.producer}, whose own "
        "default is 1e-3; ONNX readers fall back to 1e-5 where the attribute is missing",
        severity=Severity.INFO,
        observed=ASSUMED_EPS,
        threshold=1e-3,
        confidence=_SUGGESTED,
        fix="compare one output with the original; if they differ, set eps to the original's",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    trained = [bn for bn in activations(subject) if bn.running_var and not statistics_untouched(bn)]
    if any(fixed_by_mxnet(bn, subject.producer) for bn in activations(subject)):
        return None
    if len(trained) < FEWEST:
        return f"fewer than {FEWEST} layers with trained statistics: nothing to compare"
    return None


def _sick() -> Inspection:
    factor = 999.98
    healthy = examples.inspection()
    layers = [
        replace(
            bn,
            running_mean=tuple(factor * (0.3 + v) for v in bn.running_mean or ()),
            running_var=tuple(factor * v for v in bn.running_var or ()),
        )
        for bn in healthy.batchnorms
    ]
    return replace(healthy, batchnorms=tuple(layers))


RULE = Rule(
    id="BN017",
    name="lossy-conversion",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Looks for traces of a conversion that lost a scale factor, gamma, or eps.",
    why="Three losses are known to leave a network that runs and is wrong. Caffe stores mean and variance "
    "times a scale factor (999.98 after long training) that a converter has to divide by; undivided, "
    "|mean|/sigma is 32 times what it should be in every layer at once, which is what this rule looks for. "
    "MXNet's fix_gamma ignores the gamma that is stored: one number in all channels of a file of MXNet's is "
    "told. Gamma at exactly 1 in all layers, and Keras' eps of 1e-3 replaced by a default of 1e-5, are "
    "traces that sound networks show too, and are an info. What a file cannot show, a reset momentum or "
    "gammas that differ and should have been ignored, is not guessed at: compare outputs.",
    fix="divide running_mean and running_var by the scale factor (the third blob of Caffe's BatchNorm), and "
    "compare outputs with the original network",
    references=(
        "https://github.com/BVLC/caffe/issues/4885",
        "https://github.com/cvjena/cnn-models/issues/10",
        "https://github.com/apache/mxnet/issues/15717",
        "https://github.com/apache/mxnet/issues/9624",
        "https://github.com/gzuidhof/nn-transfer/pull/3",
    ),
    thresholds=(
        Threshold(
            "offset",
            3.0,
            "|running_mean|/sigma of the median channel, in the median of at least 4 layers",
            "survey: 0.21 to 0.63 (2.0 in a single layer); times sqrt(999.98) it is 6.6 to 20",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
