"""The groups beyond the first order in the document: curvature, weight space, channels, twins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.records.curvature import CurvatureRow
from bnaudit.records.twins import ParameterEffect, Twin
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1 import document_text
from bnaudit.summary.twins import most_affected, only_in_twin

from . import samples
from .builders import layer, second_order
from .sick import sick
from .test_json_v1 import strict

if TYPE_CHECKING:
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

SECOND_ORDER = [
    "measured",
    "predicted",
    "residual",
    "tolerance",
    "transported",
    "correction",
    "correction_share",
    "rayleigh",
    "rayleigh_scaled",
    "bound",
    "bound_slack",
    "bound_holds",
    "rows",
    "method",
    "verification",
]
WEIGHT_SPACE = [
    "feeder",
    "spectral_norm",
    "spectral_norm_centred",
    "grad_norm",
    "bound",
    "bound_centred",
    "bound_without",
    "tightness",
    "weight_ratio",
    "projection",
    "violations",
    "residual",
    "tolerance",
]


def document(report: Report, *, channels: bool = False) -> Any:
    return strict(document_text(report, channels=channels))


def with_layer(entry: LayerReport) -> Report:
    return replace(samples.healthy(), layers=(entry,))


def reasons(entry: Any) -> dict[str, str]:
    return {skipped["metric"]: skipped["reason"] for skipped in entry["skipped"]}


def test_second_order_keeps_its_numbers() -> None:
    order = document(with_layer(layer("bn", curvature=second_order(3e-4, slack=-0.25))))["layers"][
        0
    ]["second_order"]
    assert list(order) == SECOND_ORDER
    assert order["rayleigh"] == {"median": 3e-4, "q25": 3e-4, "q75": 3e-4, "n": 1}
    assert order["bound_slack"]["median"] == -0.25
    assert (order["residual"], order["tolerance"]) == (2e-13, 1e-10)


def test_rows_come_only_where_they_were_asked_for_and_kept() -> None:
    rows = (CurvatureRow(1.0, 1.0, 2.0), CurvatureRow(0.5, 0.5, 0.25))
    kept = with_layer(layer("bn", curvature=second_order(1.0, rows=rows)))
    assert document(kept)["layers"][0]["second_order"]["rows"] is None
    assert document(kept, channels=True)["layers"][0]["second_order"]["rows"] == [
        {"measured": 1.0, "predicted": 1.0, "bound": 2.0},
        {"measured": 0.5, "predicted": 0.5, "bound": 0.25},
    ]
    entry = document(samples.healthy(), channels=True)["layers"][0]
    assert entry["second_order"]["rows"] is None
    assert reasons(entry)["second_order.rows"] == "the run did not keep per-channel rows"


def test_weight_space_keeps_its_numbers() -> None:
    space = document(samples.everything())["layers"][0]["weight_space"]
    assert list(space) == WEIGHT_SPACE
    assert space["feeder"] == "Conv2d stem.conv.weight"
    assert space["violations"] == 0
    assert space["weight_ratio"]["n"] == 1


@pytest.mark.parametrize(
    ("place", "group", "keys", "residual"),
    [(1, "second_order", SECOND_ORDER, 0.0034), (1, "weight_space", WEIGHT_SPACE, 0.41)],
)
def test_an_integrity_failure_keeps_the_residual_and_withholds_the_rest(
    place: int, group: str, keys: list[str], residual: float
) -> None:
    report = document(sick())
    entry = report["layers"][place][group]
    assert list(entry) == keys
    known = {"residual", "tolerance", "feeder", "method", "verification"}
    assert entry["residual"] == residual
    assert {entry[key] for key in keys if key not in known} == {None}
    assert report["summary"][group]["integrity_failed"] == 1
    worst = report["summary"][group]["worst_residual"]
    assert (worst["layer"], worst["residual"]) == ("backbone.stages.0.blocks.0.norm", residual)


def test_what_nobody_asked_for_is_null_and_says_so() -> None:
    report = document(samples.first_order_only())
    entry = report["layers"][0]
    assert set(entry["second_order"].pop("verification").values()) == {None}
    assert set(entry["second_order"].values()) == set(entry["weight_space"].values()) == {None}
    assert entry["statistics"]["dead_gamma"] is None
    assert set(entry["statistics"]["mean_drift"].values()) == {None}
    assert reasons(entry) == dict.fromkeys(
        (
            "first_order.finite_difference",
            "first_order.forward_mode",
            "second_order",
            "weight_space",
            "statistics.dead_gamma",
            "statistics.dead_gradient",
            "statistics.gain_outlier",
            "statistics.mean_drift",
            "statistics.variance_drift",
            "statistics.constant",
            "statistics.not_finite",
            "statistics.grad_xhat_norm",
            "gap",
            "mismatch",
        ),
        "not requested",
    )
    assert report["twins"] == {
        "entries": None,
        "skipped": [{"metric": "entries", "reason": "not requested"}],
    }
    assert report["summary"]["gradient_scale"] is None
    assert reasons(report["summary"]) == dict.fromkeys(
        ("gradient_scale", "upstream"), "not requested"
    )


def test_channels_keep_their_indices_and_drift() -> None:
    statistics = document(samples.drifted())["layers"][0]["statistics"]
    assert statistics["mean_drift"] == {
        "median": 0.61,
        "p95": pytest.approx(1.27),
        "max": 1.93,
        "channel": 17,
        "sampling_error": 0.004,
        "lower": pytest.approx(1.93 - 0.02),
        "per_channel": None,
    }
    assert statistics["gain_outlier"] == 6.1
    dead = document(sick())["layers"][0]["statistics"]
    assert dead["dead_gamma"] == [3, 7, 12]
    assert dead["dead_gradient"] == [0, 4, 8, 12, 16, 20, 24, 28]


def test_further_values_that_are_not_finite_are_null_and_say_so() -> None:
    report = document(samples.not_finite(), channels=True)
    entry = report["layers"][0]
    found = reasons(entry)
    assert entry["second_order"]["rows"][0] == {"measured": None, "predicted": 1.0, "bound": None}
    assert found["second_order.rows"] == "1 of 2 rows with values that are not finite"
    assert found["statistics.mean_drift.max"] == "not finite (nan)"
    assert found["statistics.gain_outlier"] == "not finite (inf)"
    assert entry["statistics"]["mean_drift"]["median"] == 0.1
    assert report["twins"]["entries"][0]["twin_grad_norm"] is None
    assert reasons(report["twins"]) == {
        "entries.0.loss_difference": "not finite (nan)",
        "entries.0.twin_grad_norm": "not finite (inf)",
        "entries.0.ratio": "the gradient of the model is 0",
        "entries.0.parameters.0.grad_norm": "not finite (nan)",
    }
    assert report["summary"]["second_order"]["bound_holds"] is None


def test_twins_keep_every_parameter() -> None:
    twins = document(samples.everything())["twins"]
    assert twins["skipped"] == []
    frozen, identity = twins["entries"]
    assert (frozen["kind"], frozen["layer"], identity["kind"]) == ("frozen", None, "identity")
    assert frozen["ratio"] == pytest.approx(0.1704 / 0.1021)
    assert [parameter["name"] for parameter in frozen["parameters"]][:2] == [
        "stem.conv.weight",
        "stem.conv.bias",
    ]


def test_summary_counts_layers_violations_and_the_median_ratio() -> None:
    space = document(sick())["summary"]["weight_space"]
    assert (space["measured"], space["violations"]) == (2, 2)
    assert space["weight_ratio"] == pytest.approx((12.1 + 0.81) / 2)
    order = document(sick())["summary"]["second_order"]
    assert (order["measured"], order["bound_layers"], order["bound_holds"]) == (2, 2, 0.0)


def test_a_bound_that_was_never_compared_holds_nowhere_and_fails_nowhere() -> None:
    order = replace(second_order(1.0), bound_slack=Skipped("a division of zero by zero"))
    summary = document(with_layer(layer("bn", curvature=order)))["summary"]["second_order"]
    assert (summary["measured"], summary["bound_layers"]) == (1, 0)
    assert summary["bound_holds"] is None


def test_most_affected_leaves_out_what_is_only_rounding() -> None:
    frozen, _ = samples.twins()
    assert [name for name, _ in most_affected(frozen, 3)] == [
        "stem.conv.weight",
        "layer1.0.conv1.weight",
        "head.fc1.weight",
    ]
    assert only_in_twin(frozen) == 1


def test_most_affected_counts_both_directions() -> None:
    effects = (
        ParameterEffect("up", 1.0, 3.0),
        ParameterEffect("down", 1.0, 0.1),
        ParameterEffect("gone", 1.0, 0.0),
        ParameterEffect("same", 1.0, 1.0),
    )
    found = most_affected(Twin("frozen", None, 0.0, 2.0, 3.2, effects), 3)
    assert found == [("gone", 0.0), ("down", 0.1), ("up", 3.0)]
