"""What the second order will take: estimated before it begins, and divided among the layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from bnaudit.measure.sweep.plan import Detail, Prepared, costs, pass_seconds
from bnaudit.measure.sweep.play import Site
from bnaudit.measure.sweep.tape import Shape, Step, Tape
from bnaudit.options import AuditOptions
from bnaudit.pipeline import audit_loaded, load_to_audit
from tests import nets


@dataclass
class Told:
    """Keeps what it is told."""

    stages: dict[str, float] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    name: str = ""

    def stage(self, name: str, total: int | None = None) -> None:
        self.name = name
        self.stages[name] = 0.0

    def advance(self, steps: float = 1) -> None:
        self.stages[self.name] += steps

    def say(self, state: str) -> None:
        pass

    def expect(self, seconds: float, shorter: str) -> None:
        self.expected[self.name] = seconds
        assert "--" in shorter


def told(net: nn.Module, x: torch.Tensor, **options: object) -> Told:
    found = Told()
    settings = AuditOptions(data=x, batch_size=6, **options)  # type: ignore[arg-type]
    audit_loaded(load_to_audit(net, settings), "net", settings, found)
    return found


@pytest.fixture
def deep() -> nn.Module:
    blocks = [(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(6)]
    return nets.randomise(
        nn.Sequential(*(layer for b in blocks for layer in b), nn.Flatten())
    ).eval()


@pytest.mark.parametrize("memory", [1, None])
def test_both_stages_say_what_they_expect(
    deep: nn.Module, memory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: True)
    found = told(deep, torch.randn(12, 8, 8, 8), batches=2, memory=memory)
    assert found.expected["measuring"] > 0
    assert found.expected["second order"] > 0
    assert found.stages["second order"] == pytest.approx(6)
    assert found.stages["measuring"] == 2


def test_one_batch_has_no_option_that_makes_it_less(deep: nn.Module) -> None:
    found = told(deep, torch.randn(6, 8, 8, 8), batches=1)
    assert "measuring" not in found.expected


def step(**known: object) -> Step:
    made = Step(torch.ops.aten.relu.default, (), {}, [0], [None], [], [0])
    made.out_shapes = [Shape((4, 8, 10**4), torch.float32)]
    for name, value in known.items():
        setattr(made, name, value)
    return made


def prepared(*steps: Step) -> Prepared:
    sites = [Site((str(i), 1), i, None) for i in range(len(steps))]  # type: ignore[arg-type]
    return Prepared(Tape(list(steps)), [], sites, {}, 0)


def test_a_layer_costs_all_that_lies_behind_it() -> None:
    each = costs(prepared(step(), step(), step()), Detail.CURVATURE)
    assert each == pytest.approx([3 * each[2], 2 * each[2], each[2]])
    assert costs(prepared(step()), Detail.BOUND) == pytest.approx([3 * each[2]])


def test_what_has_no_rule_costs_by_its_size() -> None:
    """A sweep of thousands of forward passes was taken for one of a few."""
    (plain,) = costs(prepared(step(work=10**9)), Detail.CURVATURE)
    (alone,) = costs(prepared(step(work=10**9, local=True)), Detail.CURVATURE)
    (singly,) = costs(prepared(step(work=10**9, local=True, singly=True)), Detail.CURVATURE)
    assert singly > alone > 3 * plain
    assert pass_seconds(Tape([step(work=10**9)])) > pass_seconds(Tape([step()]))
