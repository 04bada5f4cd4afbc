"""The descent finds minima that are known, and ends where it is told to."""

from __future__ import annotations

from math import inf

import pytest
import torch

from bnaudit.matching.descent import ENOUGH, PATIENCE, Descent


def test_a_quadratic_of_any_shape() -> None:
    """f = sum k (x - k)^2 over two tensors: the minimum is at k."""
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(12, generator=generator, dtype=torch.float64) * 50 + 0.1
    goal = torch.randn(12, generator=generator, dtype=torch.float64)
    a = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    found = Descent(
        [a, b],
        lambda: size @ (torch.cat([a.flatten(), b]) - goal).square(),
        100,
        lambda _: None,
    )
    assert found.run() <= ENOUGH
    assert len(found.history) < 60
    assert torch.allclose(torch.cat([a.flatten(), b]).detach(), goal, atol=1e-2)


def test_a_valley() -> None:
    """Rosenbrock's: its minimum is at (1, 1), behind a bend."""
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    found = Descent(
        [x],
        lambda: (1 - x[0]).square() + 100 * (x[1] - x[0].square()).square(),
        150,
        lambda _: None,
    )
    assert found.run() <= ENOUGH
    assert torch.allclose(x.detach(), torch.ones(2, dtype=torch.float64), atol=1e-2)


def test_the_best_values_stay() -> None:
    x = torch.tensor([3.0], requires_grad=True)
    told: list[float] = []
    found = Descent([x], lambda: (x - 1).square().sum() + 1, 5, told.append)
    best = found.run()
    assert told == found.history
    assert best == min(told)
    assert float((x.detach() - 1).square().sum() + 1) == pytest.approx(best)


def test_the_limit_counts_passes() -> None:
    passes = 0

    def evaluate() -> torch.Tensor:
        nonlocal passes
        passes += 1
        return x.square().square().sum() * 1e6

    x = torch.full((5,), 7.0, requires_grad=True)
    Descent([x], evaluate, 6, lambda _: None).run()
    assert passes == 6


def test_it_ends_where_nothing_is_gained() -> None:
    x = torch.ones(3, requires_grad=True)
    found = Descent([x], lambda: 5 + 1e-4 * x.sum().tanh(), 500, lambda _: None)
    found.run()
    assert len(found.history) <= PATIENCE + 2


def test_an_objective_that_is_no_number_shortens_the_step() -> None:
    x = torch.tensor([4.0], dtype=torch.float64, requires_grad=True)
    found = Descent([x], lambda: (x.log() - 1).square().sum(), 60, lambda _: None)
    assert found.run() <= ENOUGH
    assert float(x.detach()) == pytest.approx(2.718, abs=0.01)


def test_no_number_at_all_leaves_everything_as_it_was() -> None:
    x = torch.tensor([4.0], requires_grad=True)
    assert Descent([x], lambda: torch.nan * x.sum(), 60, lambda _: None).run() == inf
    assert x.tolist() == [4.0]
