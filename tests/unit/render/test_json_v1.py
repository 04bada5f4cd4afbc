"""The document of schema 1: strict, of constant shape, valid under its own schema."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bnaudit._version import __version__
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1 import document_text, schema_text

from . import samples
from .builders import spread
from .sick import sick

VALIDATOR = Draft202012Validator(json.loads(schema_text()))


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("channels", [False, True])
def test_every_report_is_strict_and_valid(name: str, channels: bool) -> None:
    text = document_text(samples.ALL[name](), channels=channels)
    VALIDATOR.validate(strict(text))
    assert text.isascii()
    assert text.endswith("}\n")
    assert text == document_text(samples.ALL[name](), channels=channels)


def test_layers_have_one_shape_however_little_was_measured() -> None:
    metric_keys = {"median", "q25", "q75", "n"}

    def groups(value: Any) -> Any:
        if isinstance(value, dict) and value.keys() != metric_keys:
            return {key: groups(entry) for key, entry in value.items()}
        return None

    layers = strict(document_text(sick()))["layers"]
    layers += strict(document_text(samples.not_finite()))["layers"]
    shapes = [groups(layer) for layer in layers]
    assert all(found == shapes[0] for found in shapes)
    assert [list(layer) for layer in layers] == [list(layers[0])] * len(layers)


def test_top_level_keys_and_tool() -> None:
    document = strict(document_text(samples.healthy()))
    assert list(document) == [
        "schema",
        "tool",
        "model",
        "run",
        "layers",
        "twins",
        "upstream",
        "deployment",
        "preparation",
        "findings",
        "suppressed",
        "rules_not_run",
        "baseline",
        "summary",
        "failure",
    ]
    assert document["schema"] == "bnaudit.report/1"
    assert document["tool"] == {"name": "bnaudit", "version": __version__}


def test_numbers_keep_full_precision() -> None:
    report = samples.healthy()
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)
    third = replace(order, measured=spread(1 / 3))
    report = replace(report, layers=(replace(report.layers[0], first_order=third),))
    written = strict(document_text(report))["layers"][0]["first_order"]["measured"]
    assert written["median"] == 1 / 3


def test_skipped_group_is_all_null_with_one_reason() -> None:
    layer = strict(document_text(sick()))["layers"][4]
    assert set(layer["first_order"]) == {
        "statistics",
        "predicted",
        "measured",
        "residual",
        "tolerance",
        "finite_difference",
        "forward_mode",
        "scale",
        "projection",
        "removed_mean",
        "removed_xhat",
        "grad_out_norm",
        "grad_in_norm",
    }
    finite_difference = layer["first_order"].pop("finite_difference")
    forward_mode = layer["first_order"].pop("forward_mode")
    for group in (layer["first_order"], finite_difference, forward_mode):
        assert set(group.values()) == {None}
    reasons = {entry["metric"]: entry["reason"] for entry in layer["skipped"]}
    further = {"second_order", "weight_space", "gap", "mismatch"}
    assert list(reasons) == [
        "gain.batch",
        "first_order",
        "second_order",
        "weight_space",
        "statistics.sigma",
        "statistics.leak",
        "statistics.dead_gradient",
        "statistics.gain_outlier",
        "statistics.mean_drift",
        "statistics.variance_drift",
        "statistics.grad_xhat_norm",
        "gap",
        "mismatch",
    ]
    assert {reasons[path] for path in reasons if path not in further} == {
        "one value per channel (m = 1)"
    }


def test_single_skipped_metric_is_null_with_its_path() -> None:
    layer = strict(document_text(sick()))["layers"][6]
    assert layer["first_order"]["predicted"] is None
    assert {"metric": "first_order.predicted", "reason": "|G| is 0 in every batch"} in layer[
        "skipped"
    ]


def test_integrity_failure_keeps_the_residual_and_withholds_the_rest() -> None:
    document = strict(document_text(sick()))
    order = document["layers"][3]["first_order"]
    assert (order["residual"], order["tolerance"]) == (0.21, 1e-5)
    assert order["measured"] is None
    assert document["summary"]["integrity_failed"] == 1
    worst = document["summary"]["worst_residual"]
    assert worst["layer"] == "backbone.stages.2.blocks.11.downsample.norm"
    assert worst["fraction"] == pytest.approx(21_000)


def test_worst_finite_difference_is_named() -> None:
    worst = strict(document_text(sick()))["summary"]["worst_finite_difference"]
    assert worst == {"layer": "head.0.bn", "relative_error": 4e-6}


def test_what_is_not_finite_is_null_and_says_so() -> None:
    document = strict(document_text(samples.not_finite(), channels=True))
    layer = document["layers"][0]
    assert layer["gain"]["batch"]["max"] is None
    assert layer["first_order"]["measured"] is None
    assert layer["first_order"]["finite_difference"]["measured"] is None
    assert layer["channel_values"]["leak"] == [None, None]
    reasons = {entry["metric"]: entry["reason"] for entry in layer["skipped"]}
    assert reasons["first_order.measured"] == "not finite (median 1.2, q25 1.1, q75 inf)"
    assert reasons["first_order.residual"] == "not finite (nan)"
    assert reasons["channel_values.leak"] == "2 of 2 values not finite"
    assert document["findings"][0]["observed"] is None


def test_channel_arrays_are_left_out_unless_asked_for() -> None:
    assert strict(document_text(samples.not_finite()))["layers"][0]["channel_values"] is None
    asked = strict(document_text(samples.healthy(), channels=True))["layers"][0]
    assert asked["channel_values"] is None
    assert asked["skipped"][-1]["metric"] == "channel_values"


def test_loss_without_a_value_explains_itself() -> None:
    report = samples.healthy()
    assert report.run is not None
    loss = replace(report.run.loss, value=Skipped("the model was not differentiated"))
    run = strict(document_text(replace(report, run=replace(report.run, loss=loss))))["run"]
    assert run["loss"]["value"] is None
    assert run["skipped"] == [
        {"metric": "loss.value", "reason": "the model was not differentiated"},
        {"metric": "verification", "reason": "not requested"},
    ]


def test_only_the_seconds_differ_between_equal_runs() -> None:
    report = samples.healthy()
    assert report.run is not None
    slower = replace(report, run=replace(report.run, seconds={"load": 9.0}))
    documents = [strict(document_text(entry)) for entry in (report, slower)]
    for document in documents:
        del document["run"]["seconds"]
    assert documents[0] == documents[1]


def finding(severity: Severity) -> Finding:
    return Finding("BN000", "x", severity, None, "fact", "fix")


@pytest.mark.parametrize(
    ("severities", "fail_on", "verdict", "exit_code"),
    [
        ([], Severity.ERROR, "clean", 0),
        ([Severity.INFO], Severity.ERROR, "clean", 0),
        ([Severity.WARNING], Severity.ERROR, "findings", 0),
        ([Severity.WARNING], Severity.WARNING, "findings", 1),
        ([Severity.ERROR], None, "findings", 0),
    ],
)
def test_verdict_says_what_was_found_and_exit_code_what_follows(
    severities: list[Severity], fail_on: Severity | None, verdict: str, exit_code: int
) -> None:
    found = tuple(finding(severity) for severity in severities)
    report = replace(samples.healthy(), findings=found, fail_on=fail_on)
    summary = strict(document_text(report))["summary"]
    assert (summary["verdict"], summary["exit_code"]) == (verdict, exit_code)


def test_summary_of_a_healthy_report() -> None:
    summary = strict(document_text(samples.healthy()))["summary"]
    assert summary == {
        "layers": 10,
        "measured": 10,
        "integrity_failed": 0,
        "defined": 10,
        "not_executed": 0,
        "findings": {"error": 0, "warning": 0, "info": 0},
        "median": {
            "statistics": "batch",
            "gain": pytest.approx((1.18 + 1.09) / 2),
            "reduction": pytest.approx((1.21 + 1.12) / 2, rel=1e-6),
        },
        "gradient_scale": {
            "median": 3.12,
            "q25": pytest.approx(2.808),
            "q75": pytest.approx(3.432),
            "n": 4,
        },
        "worst_residual": {
            "layer": "stem.bn",
            "residual": 3e-8,
            "tolerance": 1e-5,
            "fraction": pytest.approx(3e-3),
        },
        "worst_finite_difference": {"layer": None, "relative_error": None},
        "second_order": {
            "measured": 10,
            "integrity_failed": 0,
            "worst_residual": {
                "layer": "stem.bn",
                "residual": 2e-13,
                "tolerance": 1e-10,
                "fraction": pytest.approx(2e-3),
            },
            "bound_layers": 10,
            "bound_holds": 0.3,
        },
        "weight_space": {
            "measured": 0,
            "integrity_failed": 0,
            "worst_residual": dict.fromkeys(("layer", "residual", "tolerance", "fraction")),
            "violations": 0,
            "weight_ratio": None,
        },
        "deployed": None,
        "upstream": None,
        "outside": [
            {
                "layer": "layer3.0.shortcut.bn",
                "quantity": "reduction",
                "value": pytest.approx(0.334, rel=1e-6),
                "low": 0.58,
                "high": 7.37,
                "depends_on_scale": True,
            }
        ],
        "fail_on": "error",
        "allow_no_bn": False,
        "verdict": "clean",
        "exit_code": 0,
        "skipped": [{"metric": "upstream", "reason": "not requested"}],
    }


@pytest.mark.parametrize(
    ("name", "verdict", "exit_code"),
    [("no_batchnorm", "nothing-to-audit", 3), ("not_run", "failed", 4)],
)
def test_nothing_to_audit_and_failure_are_never_clean(
    name: str, verdict: str, exit_code: int
) -> None:
    document = strict(document_text(samples.ALL[name]()))
    assert document["summary"]["verdict"] == verdict
    assert document["summary"]["exit_code"] == exit_code
    assert document["summary"]["median"]["gain"] is None
    assert set(document["summary"]["worst_residual"].values()) == {None}
