"""What the text says of curvature, weight space, channels and twins beside the golden files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from bnaudit.judge.limits import channel_limits
from bnaudit.records.curvature import SecondOrder, Verification
from bnaudit.records.twins import Twin
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread
from bnaudit.render.text import document_to_text
from bnaudit.render.text.cells import Charset
from bnaudit.render.text.channels import channel_facts
from bnaudit.render.text.table import LEFT, Column, Notes, Room, Row, Table
from bnaudit.render.text.verdict import verdict_line
from bnaudit.render.text.words import factor, scientific
from bnaudit.summary.channels import conspicuous

from . import samples
from .builders import drift, inconspicuous, layer, second_order
from .settings import SYNTHETIC
from .sick import sick

if TYPE_CHECKING:
    from bnaudit.records.drift import Channels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.12e-5, "4.1e-05"),
        (-0.21, "-2.1e-01"),
        (0.0, "0"),
        (-0.0, "0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_scientific(value: float, text: str) -> None:
    assert scientific(value) == text


def test_factors() -> None:
    assert [factor(value) for value in (12.3456, 0.5, float("inf"))] == ["×12.3", "×0.500", "×inf"]


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_curvature_columns_only_where_it_was_measured(width: int) -> None:
    assert "curvature" not in document_to_text(samples.first_order_only(), width=width)
    assert ("curvature" in document_to_text(samples.healthy(), width=width)) == (width >= 80)


def test_the_terms_of_the_projection_have_a_column_each_where_there_is_room() -> None:
    assert "removed by" in document_to_text(samples.healthy(), width=140)
    assert "removed by" in document_to_text(samples.first_order_only(), width=100)
    assert "removed by" not in document_to_text(samples.healthy(), width=100)


def test_a_reason_that_all_layers_share_needs_no_names() -> None:
    text = document_to_text(samples.running_mode())
    assert "\n– curvature: the theorem is about batch statistics (--mode batch)\n" in text


def test_notes_are_said_once() -> None:
    notes = Notes(3)
    for label in ("a", "b", "a"):
        notes.add("leak", "not recorded", label)
    notes.add("", "integrity", "c", failed=True)
    assert notes.lines() == [
        ("– leak of a, b: not recorded", ""),
        ("✗ c: integrity", "bold red"),
    ]


def test_curvature_that_is_withheld_is_marked_and_explained() -> None:
    text = document_to_text(sick(), width=120)
    note = "✗ curvature of backbone.stages.0.blocks.0.norm: integrity: residual 0.0034, tolerance"
    assert note in text
    assert "second order disagrees in 1 (worst residual 0.0034, tolerance 1e-10)" in " ".join(
        text.split()
    )


def test_the_bound_on_curvature_is_a_fact_and_never_fails_a_run() -> None:
    never = tuple(
        replace(entry, second_order=second_order(1e-3, slack=-0.9, holds=0.0))
        for entry in samples.healthy().layers
    )
    text = document_to_text(replace(samples.healthy(), layers=never), width=200)
    last = text.splitlines()[-1]
    assert last.startswith("PASS: ")
    assert "second order agrees (residual 2e-13), bound holds in 0 of 10" in last


def test_a_minimax_bound_that_is_exceeded_is_marked() -> None:
    text = document_to_text(sick(), width=120)
    assert "✗ minimax bound of backbone.stem.bn: exceeded 2 times" in text


def test_no_weight_space_and_twins_unless_asked_for() -> None:
    text = document_to_text(samples.healthy())
    assert "feeder" not in text
    assert "twin" not in text
    assert "worth a look" not in text


def facts(channels: Channels) -> str:
    entry = layer("bn", statistics=channels)
    report = replace(samples.healthy(), layers=(entry,))
    found = conspicuous(report, channel_limits(report.thresholds))
    return "; ".join(text for entry in found for text in channel_facts(entry))


def test_inconspicuous_channels_are_not_listed() -> None:
    assert facts(inconspicuous()) == ""
    # Few values: what looks far off may be chance.
    noisy = replace(inconspicuous(), mean_drift=drift(0.1, 0.9, 3, error=0.2))
    assert facts(noisy) == ""


def test_drift_is_listed_with_its_channel() -> None:
    far = replace(inconspicuous(), variance_drift=drift(0.0, 3.0, 40))
    assert facts(far) == "variance drift ×8.00 in channel 40 (median ×1.00)"
    further = replace(inconspicuous(), variance_drift=drift(1.0, 2000.0, 40))
    assert facts(further) == "variance drift ×2^2000 in channel 40 (median ×2.00)"


def test_synthetic_data_says_nothing_of_drift() -> None:
    synthetic = replace(samples.drifted(), run=SYNTHETIC)
    assert "mean drift" in document_to_text(samples.drifted(), width=140)
    text = document_to_text(synthetic, width=200)
    assert "mean drift" not in text
    assert "log2 var" not in text
    assert "– drift: synthetic data says nothing about the running statistics" in text


def test_gradient_scale_and_its_absence() -> None:
    report = samples.healthy()
    assert "depth: |G| at the first layer is 3.12 times that at the last" in document_to_text(
        report
    )
    gone = replace(report, gradient_scale=Skipped("fewer than two layers have a gradient"))
    assert "– depth: fewer than two layers have a gradient" in document_to_text(gone)
    unasked = replace(report, gradient_scale=NOT_REQUESTED)
    assert "depth" not in document_to_text(unasked)


def test_many_twins_name_the_parameters_of_the_whole_only() -> None:
    whole, _ = samples.twins()
    each = tuple(replace(whole, layer=f"bn{place}") for place in range(6))
    report = replace(samples.healthy(), twins=(whole, *each))
    text = document_to_text(report)
    assert text.count("most affected") == 1
    assert text.count("\n  frozen  ") == 7


def test_a_twin_without_gradients_has_no_ratio() -> None:
    twin = Twin("identity", "bn", 0.0, 0.0, 0.0, ())
    text = document_to_text(replace(samples.healthy(), twins=(twin,)))
    assert next(line for line in text.splitlines() if line.startswith("  identity")).endswith("–")


def test_numbers_are_dropped_before_they_are_cut() -> None:
    cells = SimpleNamespace(name="a" * 30, first="1" * 8, second="2" * 8, third="3" * 8)
    columns: list[Column[SimpleNamespace]] = [
        Column("layer", "name", rank=1, align=LEFT, room=Room(10, 40)),
        Column("x", "first", rank=3),
        Column("y", "second", rank=4),
        Column("z", "third", rank=2),
    ]
    table = Table([Row(cells, "a")], columns, Charset(unicode=False), 34)
    assert [column.title for column in table.columns] == ["layer", "x", "z"]
    assert table.lines[-1].plain == "  aaa...aaaaaa  11111111  33333333"


def test_a_bound_without_a_finite_slack_is_neither_yes_nor_no() -> None:
    order = replace(second_order(1.0), bound_slack=Spread(float("nan"), 0.0, 0.0, 1))
    text = document_to_text(replace(samples.healthy(), layers=(layer("bn", curvature=order),)))
    row = next(line for line in text.splitlines() if line.startswith("  bn "))
    assert row.endswith("nan")


def test_the_verdict_tells_a_sweep_from_a_second_opinion() -> None:
    report = samples.healthy()

    def by(method: str, verification: Verification | Skipped = NOT_REQUESTED) -> str:
        layers = tuple(
            replace(layer, second_order=replace(order, method=method, verification=verification))
            for layer in report.layers
            if isinstance(order := layer.second_order, SecondOrder)
        )
        return verdict_line(replace(report, layers=layers))[2]

    assert "; second order agrees (residual" in by("double_backward")
    assert "; slope of the second-order sweep agrees (residual" in by("sweep")
    verified = by("sweep", Verification(3e-15, 1e-6))
    assert "curvature within 3e-15 of double backward in 10 layers" in verified
