"""Where a rule has to weigh: what is excused, what is only told, and what the evidence does not carry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.policy import Policy
from bnaudit.judge.verdicts import judge_inspection
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Feeder, Inspection

from .trained import at, everywhere, of, set_channels, set_values, trained

if TYPE_CHECKING:
    from bnaudit.records.finding import Finding

N = examples.CHANNELS
ZEROS, ONES = (0.0,) * N, (1.0,) * N


def kind(inspection: Inspection, name: str) -> Inspection:
    return replace(inspection, kind=name)


def sole(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


# --- training mode -------------------------------------------------------------------------------


def test_a_weight_standardised_convolution_is_an_info() -> None:
    subject = examples.changed(
        "stem.bn",
        training=True,
        running_mean=ZEROS,
        running_var=ONES,
        gamma=ONES,
        beta=ZEROS,
        feeder=None,
        preceded_by="Reshape",
    )
    assert sole(of("BN004", subject)).severity is Severity.INFO


def test_what_normalises_a_weight_is_no_layer_of_the_network() -> None:
    subject = examples.changed(
        "stem.bn",
        training=True,
        of_weights=True,
        eps=1e-6,
        momentum=1.0,
        running_mean=ZEROS,
        running_var=ONES,
        gamma=ZEROS,
        preceded_by="BatchNormalization",
    )
    found = sole(list(judge_inspection(subject).findings))
    assert (found.rule, found.severity, found.fix) == ("BN004", Severity.INFO, "none needed")


def test_a_layer_without_statistics_of_its_own_is_a_warning() -> None:
    subject = examples.changed("stem.bn", training=True, running_mean=None, running_var=None)
    assert sole(of("BN004", subject)).severity is Severity.WARNING
    plain = examples.changed(
        "stem.bn", training=True, running_mean=None, running_var=None, gamma=ONES, beta=ZEROS
    )
    found = sole(of("BN004", plain))
    assert found.severity is Severity.WARNING
    assert "has no statistics of its own" in found.message


@pytest.mark.parametrize("name", ["module", "checkpoint", "pickle"])
def test_where_no_graph_is_known_no_layer_is_taken_for_a_weights(name: str) -> None:
    subject = examples.changed(
        "stem.bn",
        training=True,
        running_mean=None,
        running_var=None,
        gamma=None,
        beta=None,
        feeder=None,
        preceded_by=None,
    )
    found = sole(of("BN004", kind(subject, name)))
    assert found.severity is Severity.WARNING
    assert "has no statistics of its own" in found.message


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("onnx", Severity.ERROR),
        ("torchscript", Severity.ERROR),
        ("exported", Severity.ERROR),
        ("checkpoint", Severity.WARNING),
    ],
)
def test_training_mode_is_weighed_by_what_the_file_is(name: str, severity: Severity) -> None:
    subject = kind(examples.changed("stem.bn", training=True), name)
    found = sole(of("BN004", subject))
    assert found.severity is severity
    assert ".eval()" in found.fix


def test_a_live_module_may_be_in_training_mode() -> None:
    verdicts = judge_inspection(kind(examples.everywhere(training=True), "module"))
    assert verdicts.findings == ()
    assert "BN004" in {entry.rule for entry in verdicts.not_run}


# --- initialisation ------------------------------------------------------------------------------


def untrained(name: str) -> Inspection:
    return kind(
        examples.everywhere(gamma=ONES, beta=ZEROS, running_mean=ZEROS, running_var=ONES), name
    )


def test_an_untrained_network_is_a_warning_for_a_file_and_an_info_for_a_module() -> None:
    assert sole(of("BN005", untrained("onnx"))).severity is Severity.WARNING
    assert sole(of("BN005", untrained("module"))).severity is Severity.INFO
    assert "not trained" in sole(of("BN005", untrained("onnx"))).message


def test_zero_initialised_residual_branches_are_no_dead_layers() -> None:
    subject = untrained("module")
    layers = (replace(subject.batchnorms[0], gamma=ZEROS), *subject.batchnorms[1:])
    assert {f.severity for f in of("BN009", replace(subject, batchnorms=layers))} == {Severity.INFO}


def test_the_shipped_start_is_untrained() -> None:
    found = sole(of("BN005", trained("digits_resnet", "start.pt")))
    assert found.severity is Severity.WARNING


def test_a_layer_that_training_never_ran_is_a_warning() -> None:
    subject = examples.changed(
        "head.bn", gamma=ONES, beta=ZEROS, running_mean=ZEROS, running_var=ONES, batches_tracked=0
    )
    assert sole(of("BN005", subject)).severity is Severity.WARNING


def test_a_counter_is_quoted_and_not_believed() -> None:
    subject = examples.changed(
        "head.bn", running_mean=ZEROS, running_var=ONES, batches_tracked=5000
    )
    assert "although num_batches_tracked says 5000" in sole(of("BN005", subject)).message


def test_placeholders_are_no_statistics() -> None:
    filler = (0.02,) * N
    subject = examples.changed("head.bn", running_mean=filler, running_var=filler)
    assert "no data gives" in sole(of("BN005", subject)).message
    one = replace(
        subject.batchnorms[3],
        channels=1,
        gamma=(1.1,),
        beta=(0.1,),
        running_mean=(0.4,),
        running_var=(0.3,),
    )
    assert of("BN005", replace(subject, batchnorms=(one,))) == []


# --- numbers -------------------------------------------------------------------------------------


def test_a_variance_of_exactly_zero_is_told_and_fails_nothing() -> None:
    subject = at("digits_resnet", 1, set_channels("running_var", (2, 9), 0.0))
    found = sole(of("BN007", subject))
    assert (found.severity, found.channels) == (Severity.INFO, (2, 9))
    assert of("BN018", subject) == []


def test_eps_zero_with_a_variance_of_zero_divides() -> None:
    variances = examples.with_value(examples.statics("stem.bn").running_var, 0, 0.0)
    subject = examples.changed("stem.bn", eps=0.0, running_var=variances)
    assert Severity.ERROR in {f.severity for f in of("BN008", subject)}


def test_tiny_eps_warns_only_where_it_is_needed() -> None:
    subject = examples.everywhere(eps=1e-20)
    assert {f.severity for f in of("BN008", subject)} == {Severity.INFO}
    variances = examples.with_value(examples.statics("stem.bn").running_var, 0, 0.0)
    sick = examples.changed("stem.bn", eps=1e-20, running_var=variances)
    assert Severity.WARNING in {f.severity for f in of("BN008", sick)}


def test_mixed_eps_is_an_info_and_float32_is_no_difference() -> None:
    found = sole(of("BN008", examples.changed("head.bn", eps=1e-3)))
    assert (found.severity, found.layer) == (Severity.INFO, "head.bn")
    assert of("BN008", examples.changed("head.bn", eps=9.999999747378752e-06)) == []


def test_float16_loses_what_float32_holds() -> None:
    variances = examples.with_value(examples.statics("stem.bn").running_var, 3, 7e4)
    found = sole(of("BN011", examples.changed("stem.bn", running_var=variances)))
    assert (found.severity, found.channels) == (Severity.INFO, (3,))
    assert of("BN011", examples.changed("stem.bn", dtype="float16")) == []
    zero = examples.with_value(examples.statics("stem.bn").running_var, 3, 0.0)
    sick = examples.changed("stem.bn", dtype="float16", eps=1e-8, running_var=zero)
    assert sole(of("BN011", sick)).severity is Severity.ERROR
    assert of("BN011", examples.changed("stem.bn", dtype="float16", running_var=zero)) == []


def test_a_small_variance_alone_is_no_gain_outlier_worth_a_warning() -> None:
    variances = examples.with_value(examples.statics("stem.bn").running_var, 3, 1e-4)
    subject = examples.changed("stem.bn", running_var=variances)
    found = sole(of("BN010", subject))
    assert (found.severity, found.channels) == (Severity.INFO, (3,))
    assert "harmless" in found.confidence


def test_momentum_in_onnx_is_an_info() -> None:
    assert sole(of("BN012", examples.changed("stem.bn", momentum=0.99))).severity is Severity.INFO


# --- the counter ---------------------------------------------------------------------------------


def test_a_variance_below_the_weight_of_the_initial_one_refutes_the_counter() -> None:
    few = examples.everywhere(batches_tracked=5)
    assert of("BN013", few) == []
    assert min(examples.statics("stem.bn").running_var or ()) < 0.9**5


@pytest.mark.parametrize(("batches", "weight"), [(12, 0.9**12), (43, 0.9**43)])
def test_the_weight_of_the_initial_values(batches: int, weight: float) -> None:
    found = of("BN013", everywhere("digits_resnet", set_values(batches_tracked=batches)))
    if batches == 12:
        assert found == []
        variances = (0.5, 0.9, 1.4)
        subject = examples.everywhere(batches_tracked=batches, running_var=variances)
        found = of("BN013", subject)
    assert sole(found).observed == pytest.approx(weight, rel=1e-3)


def test_a_counter_of_zero_says_nothing() -> None:
    verdicts = judge_inspection(examples.everywhere(batches_tracked=0))
    assert "says nothing" in next(e.reason for e in verdicts.not_run if e.rule == "BN013")


def test_an_assumed_momentum_is_told() -> None:
    few = examples.everywhere(batches_tracked=5, running_var=(0.8, 0.9, 1.4))
    subject = replace(
        few, batchnorms=tuple(replace(b, momentum=None, eps=None) for b in few.batchnorms)
    )
    found = sole(of("BN013", subject))
    assert "is assumed" in found.confidence
    assert "momentum 0.1 (assumed)" in found.message


def test_a_cumulative_average_keeps_nothing_of_the_initial_values() -> None:
    """A file that stores eps and no momentum has momentum=None: running_var is a plain mean."""
    few = {"batches_tracked": 5, "running_var": (0.8, 0.9, 1.4)}
    assert of("BN013", examples.everywhere(**few))
    assert of("BN013", examples.everywhere(**few, momentum=None)) == []


# --- structure and conversion --------------------------------------------------------------------


def test_a_bias_that_others_read_is_not_redundant() -> None:
    shared = Feeder("w", "Conv", bias=True, sole_reader=False)
    assert of("BN014", examples.changed("stem.bn", feeder=shared)) == []


def test_gamma_fixed_at_one_is_an_info() -> None:
    found = sole(of("BN017", examples.everywhere(gamma=ONES)))
    assert found.severity is Severity.INFO
    assert of("BN017", examples.everywhere(gamma=ONES, beta=ZEROS)) == []
    assert of("BN017", examples.changed("stem.bn", gamma=ONES)) == []


def test_the_default_eps_of_another_framework_is_an_info() -> None:
    for producer, count in (("tf2onnx 1.16", 1), ("pytorch 2.13.0", 0)):
        assert len(of("BN017", replace(examples.inspection(), producer=producer))) == count


# --- collapsed variance --------------------------------------------------------------------------


def test_part_of_a_layer_may_be_collapsed() -> None:
    few = set_channels("running_var", (0, 1, 2), 1e-9)
    found = sole(of("BN018", at("digits_resnet", 4, few)))
    assert (found.severity, found.channels) == (Severity.INFO, (0, 1, 2))
    most = set_channels("running_var", tuple(range(12)), 1e-9)
    assert sole(of("BN018", at("digits_resnet", 4, most))).severity is Severity.INFO
    assert {f.severity for f in of("BN018", everywhere("digits_resnet", most))} >= {
        Severity.WARNING
    }


def test_dead_channels_are_not_counted_as_collapsed() -> None:
    dead = examples.with_value(examples.statics("stem.bn").gamma, 3, 0.0)
    variances = examples.with_value(examples.statics("stem.bn").running_var, 3, 1e-12)
    assert of("BN018", examples.changed("stem.bn", gamma=dead, running_var=variances)) == []


# --- the frame -----------------------------------------------------------------------------------


def test_thresholds_can_be_configured() -> None:
    subject = at("digits_resnet", 0, set_channels("gamma", (1, 3, 5, 7), 1e-9))
    policy = Policy(thresholds={"dead-gamma": {"share": 0.5}})
    (found,) = judge_inspection(subject, policy).findings
    assert (found.rule, found.severity, found.threshold) == ("BN009", Severity.INFO, 0.5)


def test_one_error_among_many_infos_keeps_its_layer() -> None:
    zero = set_channels("running_var", (2,), 0.0)
    layers = list(everywhere("digits_resnet", zero).batchnorms)
    layers[5] = set_channels("running_var", (1,), -1.0)(layers[5])
    found = of("BN007", replace(trained("digits_resnet"), batchnorms=tuple(layers)))
    assert [(f.severity, f.layer) for f in found] == [
        (Severity.ERROR, layers[5].name),
        (Severity.INFO, None),
    ]


def test_reasons_name_what_is_missing() -> None:
    bare = examples.everywhere(
        eps=None,
        momentum=None,
        training=None,
        batches_tracked=None,
        gamma=None,
        beta=None,
        running_mean=None,
        running_var=None,
        feeder=None,
        preceded_by=None,
    )
    verdicts = judge_inspection(bare)
    assert verdicts.findings == ()
    reasons = {entry.rule: entry.reason for entry in verdicts.not_run}
    assert reasons["BN004"] == "this file stores no training flag"
    assert reasons["BN005"] == "this file stores no running statistics"
    assert reasons["BN008"] == "this file stores no eps"
    assert reasons["BN009"] == "this file stores no gamma"
    assert reasons["BN012"] == "this file stores no momentum"
    assert reasons["BN014"] == "this file does not tell what stands before a layer"


# --- dead channels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "shared", "severity"),
    [
        (2, False, Severity.INFO),
        (3, False, Severity.INFO),
        (4, False, Severity.WARNING),
        (12, False, Severity.WARNING),
        (4, True, Severity.INFO),
        (16, True, Severity.ERROR),
    ],
)
def test_dead_channels_are_weighed_by_their_share(
    count: int, shared: bool, severity: Severity
) -> None:
    gamma = examples.statics("block1.bn").gamma or ()
    tiny = 0.0 if count == len(gamma) else 1e-6
    dead = tuple(tiny if channel < count else g for channel, g in enumerate(gamma))
    subject = examples.changed("block1.bn", gamma=dead)
    if shared:
        subject = examples.changed("block1.bn", gamma=dead, feeder=None, preceded_by="Concat")
    found = sole(of("BN009", subject))
    assert (found.severity, len(found.channels)) == (severity, count)


@pytest.mark.parametrize("count", [1, 3])
def test_an_exact_zero_among_healthy_gammas_before_a_living_filter_is_an_edit(count: int) -> None:
    gamma = (0.0,) * count + (examples.statics("block1.bn").gamma or ())[count:]
    found = sole(of("BN009", examples.changed("block1.bn", gamma=gamma)))
    assert (found.severity, len(found.channels)) == (Severity.WARNING, count)
    variances = (1e-9,) * count + (examples.statics("block1.bn").running_var or ())[count:]
    decayed = examples.changed("block1.bn", gamma=gamma, running_var=variances)
    assert sole(of("BN009", decayed)).severity is Severity.INFO
    chosen = examples.changed("block1.bn", gamma=gamma, feeder=None, preceded_by="Concat")
    assert sole(of("BN009", chosen)).severity is Severity.INFO
    on_the_way = examples.with_value(gamma, 9, 0.01)
    assert (
        sole(of("BN009", examples.changed("block1.bn", gamma=on_the_way))).severity is Severity.INFO
    )


def test_one_dead_channel_of_four_is_told_only() -> None:
    small = examples.statics("stem.bn")
    layer = replace(
        small,
        channels=4,
        gamma=(1e-9, *(small.gamma or ())[:3]),
        beta=(0.0,) * 4,
        running_mean=(small.running_mean or ())[:4],
        running_var=(small.running_var or ())[:4],
    )
    healthy = examples.inspection()
    subject = replace(healthy, batchnorms=(layer, *healthy.batchnorms[1:]))
    assert sole(of("BN009", subject)).severity is Severity.INFO


def test_most_of_one_layer_collapsed_is_no_common_cause_in_a_small_network() -> None:
    variances = (1e-9,) * 10 + (examples.statics("stem.bn").running_var or ())[10:]
    found = sole(of("BN018", examples.changed("stem.bn", running_var=variances)))
    assert found.severity is Severity.INFO
    twice = examples.everywhere(running_var=variances)
    assert {f.severity for f in of("BN018", twice)} == {Severity.WARNING}


def test_a_feature_that_eps_swamps_is_a_warning_at_the_input() -> None:
    variances = examples.with_value(examples.statics("stem.bn").running_var, 3, 1e-9)
    inner = examples.changed("stem.bn", running_var=variances)
    assert sole(of("BN018", inner)).severity is Severity.INFO
    first = examples.changed("stem.bn", running_var=variances, preceded_by="input", feeder=None)
    assert sole(of("BN018", first)).severity is Severity.WARNING
    constant = examples.with_value(variances, 3, 0.0)
    assert of("BN018", examples.changed("stem.bn", running_var=constant, preceded_by="input")) == []


@pytest.mark.parametrize("bound", [1e4, 65504.0, 1e5])
@pytest.mark.parametrize("channels", [(3,), (3, 7)])
def test_variances_that_were_cut_off_end_at_a_round_number(
    bound: float, channels: tuple[int, ...]
) -> None:
    values = list(examples.statics("stem.bn").running_var or ())
    for channel in channels:
        values[channel] = bound
    found = sole(of("BN011", examples.changed("stem.bn", running_var=tuple(values))))
    assert (found.severity, found.channels) == (Severity.WARNING, channels)
    near = tuple(v * (1 - 1e-4) if v == bound else v for v in values)
    assert "cut off" not in str(of("BN011", examples.changed("stem.bn", running_var=near)))


@pytest.mark.parametrize("bound", [1e-7, 1e-6, 9.999999974752427e-07])
def test_variances_that_were_raised_to_a_floor(bound: float) -> None:
    values = list(examples.statics("stem.bn").running_var or ())
    values[3] = values[7] = bound
    found = sole(of("BN011", examples.changed("stem.bn", running_var=tuple(values))))
    assert (found.severity, found.channels) == (Severity.WARNING, (3, 7))


def test_a_gain_that_float16_holds_in_a_few_digits() -> None:
    gamma = examples.with_value(examples.statics("stem.bn").gamma, 3, 2e-5)
    found = sole(of("BN011", examples.changed("stem.bn", gamma=gamma, dtype="float16")))
    assert (found.severity, found.channels) == (Severity.WARNING, (3,))
    assert of("BN011", examples.changed("stem.bn", gamma=gamma)) == []


@pytest.mark.parametrize("name", ["onnx", "torchscript", "exported", "checkpoint", "module"])
def test_a_layer_that_keeps_no_statistics_is_told_whatever_its_flag(name: str) -> None:
    subject = kind(
        examples.changed("stem.bn", training=False, running_mean=None, running_var=None), name
    )
    found = sole(of("BN004", subject))
    assert (found.severity, found.layer) == (Severity.WARNING, "stem.bn")
    assert "in inference too" in found.message


def test_without_a_graph_many_dead_channels_are_a_warning() -> None:
    dead = (0.0,) * 5 + (examples.statics("stem.bn").gamma or ())[5:]
    subject = examples.changed("stem.bn", gamma=dead, feeder=None, preceded_by=None)
    assert sole(of("BN009", subject)).severity is Severity.WARNING


def test_beta_tells_what_dead_channels_pass_on() -> None:
    beta = (0.5, 0.5, -0.5, -0.5) + (0.0,) * 12
    gamma = (0.0,) * 4 + (examples.statics("stem.bn").gamma or ())[4:]
    found = sole(of("BN009", examples.changed("stem.bn", gamma=gamma, beta=beta)))
    assert "; 2 of them have beta above 0" in found.message
