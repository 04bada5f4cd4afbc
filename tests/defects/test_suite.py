"""The suite of injected defects: recall, place, and silence on what is healthy.

Here every defect runs in one format and every harmless change on one network;
`python -m bench.defects` runs them all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from bench.defects.cases import Defect, Harmless, subject
from bench.defects.harmless import CHANGES
from bench.defects.nets import NETS
from bench.defects.run import FAMILIES, alarms, contradictions, measurable, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFECTS = [(family, d) for family, defects in FAMILIES.items() for d in defects if measurable(d)]
OTHERS = (
    "other rows",
    "rows sorted by label",
    "averaged weights with their statistics",
    "32 rows",
    "16 rows",
    "8 rows",
    "rows of one class",
)
SAME_FUNCTION = tuple(c for c in CHANGES if c.name not in OTHERS)


def _id(value: object) -> str:
    return value.name if isinstance(value, Harmless) else str(value)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("place", "family", "defect"),
    [(place, family, defect) for place, (family, defect) in enumerate(DEFECTS)],
    ids=[f"{d.name}, {d.net}" for _, d in DEFECTS],
)
def test_a_defect_is_found_at_its_layer(place: int, family: str, defect: Defect) -> None:
    one = replace(defect, formats=(defect.formats[place % len(defect.formats)],))
    (outcome,) = outcomes([(family, one)])
    assert outcome.found, outcome.others
    assert outcome.placed, outcome.right
    assert outcome.failed or not outcome.costly, (outcome.cost, outcome.right)
    assert contradictions(outcome.report) == []


@pytest.mark.parametrize("net", NETS)
def test_a_healthy_network_is_silent(net: str) -> None:
    as_trained = replace(CHANGES[0], nets=(net,))
    assert [alarm.findings for alarm in alarms([as_trained])] == [(), ()]


@pytest.mark.parametrize(("place", "change"), list(enumerate(CHANGES[1:])), ids=_id)
def test_a_harmless_change_is_silent(place: int, change: Harmless) -> None:
    net = change.nets[place % len(change.nets)]
    kind = change.formats[place % len(change.formats)]
    (alarm,) = alarms([replace(change, nets=(net,), formats=(kind,))])
    assert alarm.findings == ()


@pytest.mark.parametrize("change", SAME_FUNCTION, ids=lambda change: change.name)
def test_harmless_means_the_same_function(change: Harmless) -> None:
    for net in change.nets:
        before, after = subject(net), subject(net)
        with torch.no_grad():
            change.change(after)
            expected, found = before.net(before.x), after.net(after.x)
        # eps stays what it is while the variance is scaled: that is all that changes.
        assert float((expected - found).norm() / expected.norm()) < 2e-3, net


@pytest.mark.parametrize("family", FAMILIES)
def test_every_defect_changes_something(family: str) -> None:
    for defect in FAMILIES[family]:
        before, after = subject(defect.net), subject(defect.net)
        with torch.no_grad():
            defect.change(after)
        same_state = _state(before.net) == _state(after.net)
        same_data = torch.equal(before.x, after.x) and torch.equal(before.labels, after.labels)
        assert not (same_state and same_data), defect.name


def _state(net: torch.nn.Module) -> list[object]:
    values: list[object] = [(name, t.tolist()) for name, t in net.state_dict().items()]
    return [*values, repr(net), [module.training for module in net.modules()]]
