"""Intervals of medians from order statistics, and how many batches they make an audit run."""

from __future__ import annotations

import json
from itertools import pairwise
from math import comb
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnaudit
from bnaudit.errors import UsageError
from bnaudit.measure.enough import LOOKS, NARROW, rank, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bnaudit.documents import Report


def missed(count: int, k: int) -> float:
    """That fewer than k of so many values lie on one side of the median, or on the other."""
    return 2 * sum(comb(count, j) for j in range(k)) / 2**count


@pytest.mark.parametrize("count", range(1, 130))
def test_the_rank_is_the_largest_that_misses_in_a_quarter_of_five_percent(count: int) -> None:
    k = rank(count)
    assert missed(count, k) <= 0.0125 < missed(count, k + 1)
    assert (k == 0) == (count < 8)


def test_the_reach_by_hand() -> None:
    assert reach([1.0] * 7) is None
    assert reach([1.0] * 8) == 0.0
    assert reach([1, 2, 3, 4, 6, 7, 8, 90]) == pytest.approx(85 / 5)
    values = [100 + i for i in range(16)]  # x_(3) = 102 and x_(14) = 113 around 107.5
    assert reach(values) == pytest.approx(5.5 / 107.5)


DRAWN: dict[str, tuple[Callable[[torch.Generator], torch.Tensor], float]] = {
    "normal": (lambda g: 1 + 0.06 * torch.randn(4000, 64, generator=g), 1.0),
    "exponential": (
        lambda g: 1 - 0.1 * torch.rand(4000, 64, generator=g).log(),
        1 + 0.1 * 0.6931472,
    ),
    "cauchy": (
        lambda g: 1 + 0.02 * torch.tan(3.1415927 * (torch.rand(4000, 64, generator=g) - 0.5)),
        1.0,
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_interval_covers_the_median_however_the_run_was_stopped(name: str) -> None:
    """4000 runs; 5 % of them may miss, and by so many more with probability 1e-3."""
    draw, median = DRAWN[name]
    wrong, stops = 0, set()
    for values in draw(torch.Generator().manual_seed(0)).double().tolist():
        for look in LOOKS:
            far = reach(values[:look])
            if look == LOOKS[-1] or (far is not None and far <= NARROW):
                ordered, k = sorted(values[:look]), rank(look)
                wrong += not ordered[k - 1] <= median <= ordered[-k]
                stops.add(look)
                break
    assert len(stops) > 1
    assert wrong / 4000 < 0.05 + 3.1 * (0.05 * 0.95 / 4000) ** 0.5


class Net(nn.Module):
    """The rows differ as much as `spread`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


def report(rows: int, **options: Any) -> Report:
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    metrics = ("first_order", "statistics")
    return bnaudit.audit(
        Net().eval(),
        data=x,
        metrics=metrics,
        **{"batch_size": 8, **options},
    )


def test_why_no_more_batches_are_run() -> None:
    def stopped(**options: object) -> tuple[int, str | None]:
        run = report(**options).run  # type: ignore[arg-type]
        assert run is not None
        return run.data.batches, run.data.stopped

    assert stopped(rows=800, batches=3) == (3, "asked")
    assert stopped(rows=80) == (10, "data")
    assert stopped(rows=800, batches="auto") == (64, "most")
    count, why = stopped(rows=40_000, batch_size=2000)
    assert (why, count) == ("medians", 8)
    found = report(rows=40_000, batch_size=2000).run
    assert found is not None
    assert found.data.within is not None
    assert found.data.within <= NARROW


def test_more_would_cost_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.measure.enough._BUDGET", 5 * 8 * 6)
    run = report(rows=800).run
    assert run is not None
    assert (run.data.batches, run.data.stopped) == (13, "cost")


def test_the_first_of_a_stream() -> None:
    def stream() -> Iterator[torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        while True:
            yield torch.randn(8, 4, generator=draw)

    run = bnaudit.audit(Net().eval(), data=stream(), metrics=("first_order",)).run
    assert run is not None
    assert (run.data.batches, run.data.order, run.data.stopped) == (8, "given", "stream")


def test_the_same_command_gives_the_same_bytes_and_another_seed_other_rows() -> None:
    def text(seed: int) -> str:
        document = json.loads(report(rows=800, seed=seed).to_json())
        document["run"].pop("seconds")
        return json.dumps(document)

    assert text(0) == text(0)
    assert text(0) != text(1)


def test_the_layers_are_those_of_a_fixed_number() -> None:
    """As many batches in one go are the same batches, and give the same numbers."""
    auto, fixed = report(rows=640), report(rows=640, batches=64)
    assert auto.run is not None
    assert (auto.run.data.batches, auto.run.data.stopped) == (64, "most")
    numbers = [[layer.first_order for layer in r.layers] for r in (auto, fixed)]
    assert all(a == b for a, b in pairwise(numbers))


def test_neither_a_number_nor_auto() -> None:
    with pytest.raises(
        UsageError, match="batches is 'all', but has to be a whole number of at least 1 or"
    ):
        report(rows=64, batches="all")
