"""What rules take from whole vectors at once, against the definition channel by channel."""

from __future__ import annotations

from math import inf, isfinite, isnan, log, nan, sqrt
from statistics import median
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnaudit.judge import drifted
from bnaudit.judge.rules import RULES
from bnaudit.judge.rules.half_range import _above
from bnaudit.judge.statics import largest
from bnaudit.judge.verdicts import judge
from bnaudit.records.inspection import BatchNormStatics, Inspection
from bnaudit.summary.gain import gain_channels, leaks, outlying

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.judge.rule import Rule

numbers = st.one_of(
    st.floats(-1e5, 1e5, width=32),
    st.floats(1e-9, 1e9),
    st.sampled_from([0.0, -1e-5, 1e-5, 1.0, nan, inf, -inf, 1e308]),
)
vectors = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20)


def same(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and all(
        a == b or (isnan(a) and isnan(b)) for a, b in zip(ours, theirs, strict=True)
    )


def stored(pairs: list[tuple[float, float]]) -> BatchNormStatics:
    gamma, var = zip(*pairs, strict=True)
    return BatchNormStatics("bn", "", len(gamma), eps=1e-5, gamma=gamma, running_var=var)


@given(vectors)
def test_leaks_and_gains(pairs: list[tuple[float, float]]) -> None:
    layer, eps = stored(pairs), 1e-5
    wanted = [eps / (v + eps) if isfinite(v) and v >= 0 and v + eps > 0 else nan for _, v in pairs]
    assert same(leaks(layer), wanted)
    squares = [(g, v + eps) for g, v in pairs]
    found = gain_channels(layer)
    assert isinstance(found, tuple)
    assert same(
        found,
        [abs(g) / sqrt(s) if s > 0 else inf if s == 0 and g else nan for g, s in squares],
    )


@given(st.lists(numbers, max_size=30))
def test_extremes(values: list[float]) -> None:
    assert largest(values) == max((abs(v) for v in values if isfinite(v)), default=0.0)
    over = tuple(c for c, v in enumerate(values) if isfinite(v) and abs(v) > 65504.0)
    assert _above(values, 65504.0) == over


@given(st.lists(st.one_of(st.floats(0.5, 2.0), numbers), min_size=8, max_size=30))
def test_outliers(values: list[float]) -> None:
    logs = {c: log(v) for c, v in enumerate(values) if isfinite(v) and v > 0}
    if len(logs) < 8:
        assert outlying(values, 20.0, 4.0) == ()
        return
    centre = median(logs.values())
    deviation = max(0.05, 1.4826 * median(abs(v - centre) for v in logs.values()))
    above = max(log(20.0), 4.0 * deviation)
    assert outlying(values, 20.0, 4.0) == tuple(c for c, v in logs.items() if v - centre > above)


FILE_RULES = [rule for rule in RULES if rule.inspect is not None]


@pytest.mark.parametrize("rule", FILE_RULES, ids=[rule.id for rule in FILE_RULES])
@given(pairs=vectors)
def test_no_rule_breaks_on_odd_values(rule: Rule, pairs: list[tuple[float, float]]) -> None:
    layers = tuple(stored(pairs) for _ in range(5))
    found = Inspection("file", "checkpoint", batchnorms=layers)
    assert rule.inspect is not None
    list(rule.inspect(rule, found))


def test_drift_is_found_once_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was found anew for each layer, which took longer than the audit."""
    calls: list[object] = []
    real = drifted._found

    def counted(*given: object) -> object:
        calls.append(given)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(drifted, "_found", counted)
    (sick,) = (rule.sick for rule in RULES if rule.id == "BN201")
    assert sick is not None
    report = sick()
    assert not isinstance(report, Inspection)
    judge(report)
    assert len(calls) == 1
    judge(report)
    assert len(calls) == 2
