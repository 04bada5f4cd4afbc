"""Matched batches by what an audit says of them: every kind of input, equal bytes, what cannot be matched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnaudit
from bnaudit.load import load
from bnaudit.load.model import InputSpec
from bnaudit.matching.run import NO_STATISTICS, matched
from bnaudit.measure.session import open_session, place_model
from bnaudit.options import AuditOptions
from bnaudit.pipeline import audit_loaded
from bnaudit.progress import Silent
from bnaudit.records.matching import Mismatch
from bnaudit.tap.dispatch import whole_audit
from bnaudit.tap.guard import untouched
from tests.matching import nets

if TYPE_CHECKING:
    from bnaudit.data.batch import Batch
    from bnaudit.documents import Report


def audited(net: object, shapes: Any, **options: Any) -> Report:
    options = {"batches": 1, "metrics": ("first_order",), **options}
    return bnaudit.audit(net, data="matched", input_shapes=shapes, **options)  # type: ignore[arg-type]


def left(report: Report) -> dict[str, Mismatch]:
    found = {layer.label: layer.mismatch for layer in report.layers}
    assert all(isinstance(m, Mismatch) for m in found.values())
    return found  # type: ignore[return-value]


def batches(net: nn.Module, shapes: Any, **options: Any) -> tuple[Batch, ...]:
    settings = AuditOptions(data="matched", input_shapes=shapes, **options)
    with whole_audit():
        placed = place_model(load(net), settings)
        with untouched(placed.module):
            session = matched(open_session(placed, settings), settings, Silent())
    return tuple(session.batches.items)


KINDS: dict[str, tuple[Any, dict[str, tuple[int, ...]], float]] = {
    "features": (nets.features, {"input": (32, 5)}, 0.02),
    "sequences": (nets.sequences, {"input": (16, 3, 10)}, 0.02),
    "volumes": (nets.volumes, {"input": (8, 1, 4, 4, 4)}, 0.02),
    "two": (nets.two, {"left": (32, 4), "right": (32, 3)}, 0.2),
    "pixels": (nets.pixels, {"image": (16, 3, 6, 6)}, 0.05),
    "words": (nets.words, {"ids": (32, 12)}, 0.5),
    "columns": (lambda: nets.words(column=True), {"ids": (64, 2)}, 0.5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input(kind: str) -> None:
    make, shapes, most = KINDS[kind]
    report = audited(make(), shapes)
    assert report.run is not None
    assert report.run.data.source == "matched"
    matching = report.run.data.matching
    assert matching is not None
    assert not matching.kept
    assert matching.end < matching.start / 10
    for found in left(report).values():
        assert found.mean + found.variance < most
        assert found.mean_before + found.variance_before > found.mean + found.variance


def test_whole_numbers_stay_whole() -> None:
    (batch,) = batches(nets.words(), {"ids": (8, 12)}, batches=1)
    assert batch.inputs[0].dtype == torch.int64
    assert 0 <= int(batch.inputs[0].min()) <= int(batch.inputs[0].max()) < 50
    (columns,) = batches(nets.words(column=True), {"ids": (8, 2)}, batches=1)
    assert int(columns.inputs[0][:, 1].max()) < 20


def test_inputs_find_their_scale() -> None:
    (batch,) = batches(nets.volumes(), {"input": (8, 1, 4, 4, 4)}, batches=1)
    x = batch.inputs[0]
    assert 60 < float(x.mean()) < 180
    assert 20 < float(x.std()) < 180


def test_the_same_seed_gives_the_same_bytes() -> None:
    def made(seed: int, count: int) -> list[bytes]:
        found = batches(nets.sequences(), {"input": (8, 3, 10)}, batches=count, seed=seed)
        return [batch.inputs[0].numpy().tobytes() for batch in found]

    one = made(0, 2)
    assert one == made(0, 2)
    assert one[0] != one[1]
    assert set(one).isdisjoint(made(1, 2))


def test_more_batches_leave_the_first_as_they_are() -> None:
    one = batches(nets.features(), {"input": (8, 5)}, batches=1)
    three = batches(nets.features(), {"input": (8, 5)}, batches=3)
    assert torch.equal(one[0].inputs[0], three[0].inputs[0])


def test_statistics_that_no_input_has() -> None:
    report = audited(nets.twins(), {"input": (16, 1, 8, 8)}, batches=2)
    found = [f for f in report.findings if f.rule == "BN211"]
    assert [f.layer for f in found] == ["1"]
    assert 1 in found[0].channels
    assert "no batch was found to have" in found[0].message
    assert left(report)["1"].largest > 1
    assert left(report)["4"].largest < 0.5


def test_a_network_that_agrees_with_itself_has_no_such_finding() -> None:
    report = audited(nets.sequences(), {"input": (16, 3, 10)})
    assert not [f for f in report.findings if f.rule == "BN211"]
    assert "BN211" not in {r.rule for r in report.rules_not_run}


def test_an_input_that_is_left_as_drawn_is_said_and_blamed() -> None:
    spec = [InputSpec("left", ("n", 4), "float32"), InputSpec("right", ("n", 3), "float32")]
    loaded = replace(
        load(nets.two(masked=True)), inputs=(*spec, InputSpec("mask", ("n", 6), "bool"))
    )
    settings = AuditOptions(data="matched", batches=1, metrics=("first_order",))
    report = audit_loaded(loaded, "net", settings, Silent())
    assert report.run is not None
    assert report.run.data.matching is not None
    (kept,) = report.run.data.matching.kept
    assert kept == "mask: there is nothing between true and false"
    assert kept in report.run.notes
    (reason,) = [r.reason for r in report.rules_not_run if r.rule == "BN211"]
    assert kept in reason
    assert left(report)["bn_b"].largest < 0.3


def test_without_running_statistics_nothing_is_matched_and_that_is_said() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False))
    report = audited(net, {"input": (16, 4)})
    assert report.run is not None
    assert NO_STATISTICS in report.run.notes
    assert "keeps no running statistics" in str(report.layers[0].mismatch)


def test_statistics_that_are_no_numbers_are_other_rules_matter() -> None:
    net: Any = nets.sequences()
    net[1].running_var[2] = torch.nan
    report = audited(net, {"input": (16, 3, 10)})
    assert left(report)["1"].largest == float("inf")
    assert not [f for f in report.findings if f.rule == "BN211"]
    assert [f for f in report.findings if f.rule == "BN006"]


def test_circular_rules_do_not_run_and_say_so() -> None:
    report = audited(
        nets.sequences(), {"input": (16, 3, 10)}, metrics=("first_order", "statistics")
    )
    reasons = {r.rule: r.reason for r in report.rules_not_run}
    for rule in ("BN201", "BN202", "BN206", "BN209", "BN210"):
        assert "circular" in reasons[rule]
    (reason,) = {layer.statistics.mean_drift.reason for layer in report.layers}  # type: ignore[union-attr]
    assert "matched to the running statistics" in reason


def test_the_model_comes_back_untouched() -> None:
    net = nets.sequences().train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    audited(net, {"input": (8, 3, 10)}, match_steps=5)
    assert net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_the_steps_are_a_limit() -> None:
    report = audited(nets.volumes(), {"input": (8, 1, 4, 4, 4)}, match_steps=7, batches=2)
    assert report.run is not None
    assert report.run.data.matching is not None
    assert report.run.data.matching.steps == (7, 7)
    assert report.run.data.matching.limit == 7


def test_running_mode_runs_on_matched_batches_too() -> None:
    report = audited(nets.sequences(), {"input": (16, 3, 10)}, mode="running")
    assert max(m.largest for m in left(report).values()) < 0.1
