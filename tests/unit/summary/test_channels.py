"""Channels worth a look: what the rules' own thresholds single out, as configured, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnaudit import audit
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.examples.channels import drift
from bnaudit.judge.examples.report import changed, report, with_channels
from bnaudit.judge.limits import channel_limits
from bnaudit.judge.policy import Policy
from bnaudit.judge.verdicts import judge
from bnaudit.records.layer import Extent
from bnaudit.records.values import Spread
from bnaudit.summary.channels import Conspicuous, conspicuous

if TYPE_CHECKING:
    from bnaudit.records.report import Report

CHANNELS = examples.CHANNELS


def listed(subject: Report) -> list[Conspicuous]:
    return conspicuous(subject, channel_limits(subject.thresholds))


def fired(subject: Report, rule: str) -> bool:
    findings = judge(subject, Policy(thresholds=subject.thresholds)).findings
    return any(finding.rule == rule for finding in findings)


def lowered(subject: Report, rule: str, **thresholds: float) -> Report:
    values = {name.replace("_", "-"): value for name, value in thresholds.items()}
    return replace(subject, thresholds={rule: values})


def test_a_healthy_audit_has_none() -> None:
    assert listed(report()) == []


def with_outlier(gamma: float) -> Report:
    values = examples.with_value(examples.statics("block2.bn").gamma, 11, gamma)
    return replace(report(), inspection=examples.changed("block2.bn", gamma=values))


def with_leak(share: float) -> Report:
    middle = Spread(1e-5, 1e-5, 1e-5, 8)
    return changed("block2.bn", leak=Extent(middle, middle, Spread(share, share, share, 8)))


@pytest.mark.parametrize(
    ("subject", "rule", "thresholds", "rule_judges"),
    [
        # 0.4 sigma and a factor of 2^0.8: not unusual for a healthy model, and once listed.
        (with_channels(l1={"mean_drift": drift({5: 0.4})}), "BN201", {"channel": 0.2}, True),
        (
            with_channels(l1={"variance_drift": drift({5: 0.8})}),
            "BN202",
            {"channel_above": 0.5},
            True,
        ),
        (
            with_channels(l1={"variance_drift": drift({5: -1.5})}),
            "BN202",
            {"channel_below": 1.0},
            True,
        ),
        (with_channels(l1={"mean_drift": drift(everywhere=0.1)}), "BN201", {"layer": 0.05}, True),
        (with_outlier(9.0), "BN010", {"ratio": 5.0, "deviations": 1.0}, True),
        # The rule reads the stored variance, the list what was measured; the limit is the same.
        (with_leak(0.3), "BN018", {"leak": 0.2}, False),
    ],
)
def test_one_configuration_moves_findings_and_list(
    subject: Report, rule: str, thresholds: dict[str, float], rule_judges: bool
) -> None:
    assert not fired(subject, rule)
    assert listed(subject) == []
    strict = lowered(subject, rule, **thresholds)
    assert len(listed(strict)) == 1
    assert fired(strict, rule) == rule_judges


def test_the_outlying_channel_and_how_far_it_is() -> None:
    (entry,) = listed(with_outlier(60.0))
    statics = examples.statics("block2.bn")
    gains = sorted(
        abs(g) / (v + (statics.eps or 0)) ** 0.5
        for c, (g, v) in enumerate(zip(statics.gamma or (), statics.running_var or (), strict=True))
        if c != 11
    )
    far = 60.0 / ((statics.running_var or ())[11] + (statics.eps or 0)) ** 0.5
    ordered = sorted([*gains, far])
    assert entry.outlying == (11,)
    assert entry.ratio == pytest.approx(far / ((ordered[7] + ordered[8]) / 2), rel=1e-12)


def test_the_worst_living_channel_is_named() -> None:
    moved: dict[str, Any] = {"mean_drift": drift({3: -9.0, 5: 2.0, 7: -1.0}), "dead_gamma": (3,)}
    (entry,) = listed(with_channels(l1=moved))
    assert entry.mean is not None
    assert (entry.mean.channel, entry.mean.value) == (5, 2.0)


def test_one_batch_and_synthetic_data_show_no_drift() -> None:
    moved = drift({5: 4.0})
    assert listed(with_channels(l1={"mean_drift": moved})) != []
    assert listed(with_channels(l1={"mean_drift": replace(moved, margin=())})) == []
    audited = with_channels(l1={"mean_drift": moved})
    assert audited.run is not None
    drawn = replace(audited.run, data=replace(audited.run.data, source="synthetic"))
    assert listed(replace(audited, run=drawn)) == []


SIGNED = st.dictionaries(st.integers(0, CHANNELS - 1), st.floats(-4, 4), max_size=CHANNELS)


@settings(max_examples=80, deadline=None)
@given(
    SIGNED,
    st.floats(0, 1),
    st.sampled_from(["mean_drift", "variance_drift"]),
    st.lists(st.integers(0, CHANNELS - 1), max_size=3, unique=True),
)
def test_a_layer_is_listed_where_the_rule_fires(
    signed: dict[int, float], everywhere: float, field: str, dead: list[int]
) -> None:
    changes: dict[str, Any] = {
        field: drift(signed, everywhere=everywhere),
        "dead_gamma": tuple(dead),
    }
    subject = with_channels(l1=changes)
    moved = [e for e in listed(subject) if e.mean is not None or e.variance is not None]
    assert bool(moved) == fired(subject, "BN201" if field == "mean_drift" else "BN202")


def test_an_audit_carries_the_thresholds_it_was_judged_with() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(16)
    norm.weight.data.uniform_(0.8, 1.2)
    model = nn.Sequential(norm, nn.Linear(16, 3)).eval()
    rows = torch.randn(256, 16)
    norm.running_mean = rows.mean(0)
    norm.running_var = rows.var(0)
    norm.running_mean[5] += 0.3 * norm.running_var[5].sqrt()
    data: dict[str, Any] = {"data": rows, "batches": 8, "batch_size": 32}
    strict = Policy(thresholds={"mean-drift": {"channel": 0.01}})
    told = "mean drift 0.3"
    assert told not in audit(model, **data).to_table(width=140)
    found = audit(model, policy=strict, **data)
    assert told in found.to_table(width=140)
    assert "BN201" in {finding.rule for finding in found.findings}
    assert "thresholds" not in json.loads(found.to_json())
