"""Where drift starts, what counts as beyond, and what a finding about it says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bnaudit.judge.examples.channels import drift, uniform
from bnaudit.judge.examples.inspection import CHANNELS, LAYERS
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.policy import Policy
from bnaudit.judge.verdicts import judge
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from bnaudit.records.report import Report


def of(subject: Report, rule: str) -> list[Finding]:
    return [f for f in judge(subject).findings if f.rule == rule]


def mean(signed: dict[int, float]) -> dict[str, Drift]:
    return {"mean_drift": drift(signed)}


def test_one_channel_is_named_with_its_interval() -> None:
    (finding,) = of(with_channels(l2=mean({5: -0.7})), "BN201")
    assert (finding.layer, finding.channels, finding.severity) == (
        LAYERS[2],
        (5,),
        Severity.WARNING,
    )
    assert finding.observed == 0.7
    assert finding.interval == pytest.approx((0.66, 0.74))
    assert finding.threshold == 0.5
    assert "channel 5 of 16" in finding.message
    assert "below" in finding.message
    assert finding.confidence.endswith("in each of the 8 batches")


@pytest.mark.parametrize(("size", "fires"), [(0.53, False), (0.55, True)])
def test_the_near_end_of_the_interval_decides(size: float, fires: bool) -> None:
    assert bool(of(with_channels(l1=mean({5: size})), "BN201")) is fires


def test_a_batch_on_the_other_side_is_not_every_batch() -> None:
    one = drift({5: 0.9})
    least = tuple(0.0 if c == 5 else value for c, value in enumerate(one.least))
    (finding,) = of(with_channels(l1={"mean_drift": replace(one, least=least)}), "BN201")
    assert finding.confidence == "95 % interval over 8 batches"


@pytest.mark.parametrize(
    ("drifts", "severity"),
    [
        ({"mean_drift": drift({5: 9.0})}, Severity.ERROR),
        ({"mean_drift": drift({5: -9.0})}, Severity.ERROR),
        ({"variance_drift": drift({5: 12.6})}, Severity.ERROR),
        ({"variance_drift": drift({5: -12.6})}, Severity.ERROR),
        ({"mean_drift": drift({5: 0.6})}, Severity.WARNING),
        ({"variance_drift": drift({5: 1.2})}, Severity.WARNING),
        ({"variance_drift": drift({5: -2.4})}, Severity.WARNING),
    ],
)
def test_a_single_channel_is_weighed_by_how_far_it_is_off(
    drifts: dict[str, Drift], severity: Severity
) -> None:
    """6,000 = 2^12.6 times too small a variance multiplies the output by 79."""
    (finding,) = judge(with_channels(l2=drifts)).findings
    assert (finding.severity, finding.channels) == (severity, (5,))


def test_drift_behind_drift_is_told_at_its_first_layer() -> None:
    far = dict.fromkeys(range(CHANNELS), 1.4)
    (finding,) = of(with_channels(l1=mean(far), l2=mean({3: 0.7}), l3=mean(far)), "BN201")
    assert finding.layer == LAYERS[1]
    assert finding.severity is Severity.ERROR
    assert f"2 of the 2 layers behind drift too ({LAYERS[2]}, {LAYERS[3]})" in finding.message


def test_quiet_layers_between_two_that_drift_make_no_second_story() -> None:
    (finding,) = of(with_channels(l0=mean({1: 0.6}), l3=mean({3: 0.6})), "BN201")
    assert finding.layer == LAYERS[0]
    assert LAYERS[3] in finding.message


def test_a_small_drift_in_front_hides_no_large_one() -> None:
    far = mean(dict.fromkeys(range(CHANNELS), 1.4))
    found = of(with_channels(l0=mean({1: 0.6}), l2=far), "BN201")
    assert [(f.layer, f.severity) for f in found] == [
        (LAYERS[2], Severity.ERROR),
        (LAYERS[0], Severity.WARNING),
    ]
    assert f"in front of it {LAYERS[0]} drifts too" in found[0].message


def test_what_agrees_is_asked_of_both_drifts() -> None:
    """A mean that drifts in front is no agreement, though no variance does."""
    subject = with_channels(l0=mean({1: 0.6}), l2={"variance_drift": uniform(3.0)})
    (finding,) = of(subject, "BN202")
    assert "agree" not in finding.message
    nearly = with_channels(l0=mean({1: 0.4}), l2={"variance_drift": uniform(3.0)})
    (finding,) = of(nearly, "BN202")
    assert "agree" not in finding.message


def test_three_layers_that_drift_are_no_chance() -> None:
    some = {f"l{place}": mean({1: 0.6}) for place in (0, 1, 3)}
    assert [f.severity for f in of(with_channels(**some), "BN201")] == [Severity.ERROR]
    del some["l3"]
    assert [f.severity for f in of(with_channels(**some), "BN201")] == [Severity.WARNING]


def test_both_drifts_of_a_layer_are_one_finding() -> None:
    both = {**mean({5: 0.6}), "variance_drift": drift({5: 7.0})}
    (finding,) = judge(with_channels(l2=both)).findings
    assert (finding.rule, finding.severity) == ("BN202", Severity.ERROR)
    assert "0.6 sigma above it (BN201)" in finding.message
    alone = judge(with_channels(l2=both), Policy(ignore=("BN202",))).findings
    assert [f.rule for f in alone] == ["BN201"]


def fed(subject: Report, **reads: tuple[int, ...]) -> Report:
    """The report with the layers in another graph: place of the layer -> places it reads from."""
    return replace(
        subject,
        layers=tuple(
            replace(layer, reads=tuple(LAYERS[i] for i in reads[f"l{place}"]))
            for place, layer in enumerate(subject.layers)
        ),
    )


def test_branches_side_by_side_do_not_explain_each_other() -> None:
    two = with_channels(l1=mean({5: 0.6}), l2=mean({5: 0.6}))
    side_by_side = fed(two, l0=(), l1=(0,), l2=(0,), l3=(1, 2))
    assert [f.layer for f in of(side_by_side, "BN201")] == [LAYERS[1], LAYERS[2]]
    one_by_one = fed(two, l0=(), l1=(0,), l2=(0, 1), l3=(2,))
    assert [f.layer for f in of(one_by_one, "BN201")] == [LAYERS[1]]


def test_other_inputs_are_one_story_however_far_it_reaches() -> None:
    inputs = {"variance_drift": uniform(0.45)}
    far = mean(dict.fromkeys(range(CHANNELS), 1.4))
    (finding,) = judge(with_channels(l0=inputs, l3=far)).findings
    assert (finding.layer, finding.severity) == (LAYERS[0], Severity.ERROR)
    assert finding.fix.startswith("feed the audit")


def test_a_layer_called_on_two_kinds_of_input_is_told_to_be_separated() -> None:
    subject = with_channels(
        l1={"variance_drift": uniform(2.0)}, l2={"variance_drift": uniform(-1.5)}
    )
    layers = list(subject.layers)
    layers[2] = replace(layers[2], name=layers[1].name, call=2)
    (finding,) = judge(replace(subject, layers=tuple(layers))).findings
    assert finding.layer == LAYERS[1]
    assert finding.rule == "BN210"
    assert (
        "in 2 places, on inputs 0 sigma and a factor of 11.3 in variance apart" in finding.message
    )
    assert "block1.bn 0.02 sigma, x4, block1.bn#2 0.02 sigma, x0.354" in finding.message
    assert "BatchNorm of its own" in finding.fix


def test_a_layer_that_its_file_runs_in_training_mode_uses_no_statistics() -> None:
    subject = with_channels(l1=mean({5: 9.0}))
    layers = tuple(
        replace(layer, training_flag=layer.label == LAYERS[1]) for layer in subject.layers
    )
    assert not judge(replace(subject, layers=layers)).findings
    live = replace(subject, layers=layers, model=replace(subject.model, format="module"))
    assert judge(live).findings


def test_a_whole_first_layer_points_at_the_input_and_its_scale() -> None:
    (finding,) = of(with_channels(l0={"variance_drift": uniform(-15.9886)}), "BN202")
    assert finding.severity is Severity.ERROR
    assert "0.00392 times those of training" in finding.message
    assert finding.fix.startswith("feed the audit")
    uneven = drift({c: 6.0 * (-1) ** c for c in range(CHANNELS)})
    (finding,) = of(with_channels(l0={"variance_drift": uneven}), "BN202")
    assert "times those of training" not in finding.message


def test_a_later_layer_points_at_its_statistics() -> None:
    (finding,) = of(with_channels(l2={"variance_drift": uniform(3.0)}), "BN202")
    assert finding.fix.startswith("compute the running statistics again")
    assert "the layers in front agree" in finding.message


def test_a_smaller_variance_needs_more_than_a_larger_one() -> None:
    assert of(with_channels(l1={"variance_drift": drift({2: 1.5})}), "BN202")
    assert not of(with_channels(l1={"variance_drift": drift({2: -1.5})}), "BN202")


def test_channels_without_gamma_do_not_count() -> None:
    silent = {**mean({5: 3.0}), "dead_gamma": (5,)}
    assert not of(with_channels(l2=silent), "BN201")
    everything = {**mean({5: 3.0}), "dead_gamma": tuple(range(CHANNELS))}
    assert not of(with_channels(l2=everything), "BN201")


def test_rows_of_one_batch_are_judged_and_three_rows_are_not() -> None:
    sick = with_channels(l2=mean({5: 3.0}))
    assert sick.run is not None
    one = replace(sick.run.data, batches=1)
    assert of(replace(sick, run=replace(sick.run, data=one)), "BN201")
    data = replace(one, batch_size=3)
    verdicts = judge(replace(sick, run=replace(sick.run, data=data)))
    reasons = {entry.rule: entry.reason for entry in verdicts.not_run}
    assert reasons["BN201"].startswith("fewer than 4 rows have no spread")


def test_synthetic_data_supports_no_rule_about_data() -> None:
    sick = with_channels(l2={**mean({5: 3.0}), "dead_gradient": tuple(range(12)), "constant": (1,)})
    assert sick.run is not None
    data = replace(sick.run.data, source="synthetic")
    verdicts = judge(replace(sick, run=replace(sick.run, data=data)))
    assert not verdicts.findings
    assert {"BN201", "BN202", "BN203", "BN205", "BN206"} <= {e.rule for e in verdicts.not_run}


def test_running_mode_says_that_drift_is_handed_on() -> None:
    sick = with_channels(l2=mean({5: 3.0}))
    assert sick.run is not None
    (finding,) = of(replace(sick, run=replace(sick.run, mode="running")), "BN201")
    assert "layers in front run on their stored statistics" in finding.confidence


def test_thresholds_can_be_set() -> None:
    sick = with_channels(l2=mean({5: 3.0}))
    policy = Policy(thresholds={"mean-drift": {"channel": 4.0}})
    assert not judge(sick, policy).findings


def test_a_layer_without_drift_is_passed_over() -> None:
    none = Skipped("the layer keeps no running statistics")
    sick = with_channels(l0={"mean_drift": none, "variance_drift": none}, l1=mean({5: 3.0}))
    assert [f.layer for f in of(sick, "BN201")] == [LAYERS[1]]


def test_gradients_stop_at_the_last_silent_layer() -> None:
    everything = {"dead_gradient": tuple(range(CHANNELS))}
    (finding,) = of(
        with_channels(l0=everything, l1=everything, l3={"dead_gradient": (4,)}), "BN203"
    )[:1]
    assert (finding.layer, finding.severity) == (LAYERS[1], Severity.ERROR)
    assert LAYERS[0] in finding.message
    (single,) = list(of(with_channels(l3={"dead_gradient": (4,)}), "BN203"))
    assert (single.layer, single.severity) == (LAYERS[3], Severity.INFO)


def test_the_layer_where_the_gradient_is_lost_is_named() -> None:
    from bnaudit.judge.examples.channels import spread

    lost = {f"l{place}": {"grad_xhat_norm": spread(1e-5)} for place in range(3)}
    (finding,) = of(with_channels(**lost), "BN204")
    assert "vanishes" in finding.message
    assert finding.layer == LAYERS[2]


def test_records_without_arrays_are_not_judged() -> None:
    bare = Channels((), (), 1.0, Drift(3.0, 3.0, 3.0, 0, 0.1), Drift(3.0, 3.0, 3.0, 0, 0.1))
    healthy = report()
    layers = tuple(replace(layer, statistics=bare) for layer in healthy.layers)
    assert not judge(replace(healthy, layers=layers)).findings
