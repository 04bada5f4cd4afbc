"""Exchanges of ids, against every exchange tried one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnaudit.matching.tokens import Lookups, Tokens, Use, exchanged, uses_of
from bnaudit.tap.call import plain
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.naming import Namer
from tests.matching import nets


def looked(net: torch.nn.Module, ids: torch.Tensor) -> tuple[Lookups, torch.Tensor]:
    lookups = Lookups(noting=True)
    with tapped(Namer(net, {}), plain("running"), others=lookups.overrides()) as tap:
        tap.start()
        out: torch.Tensor = net(ids)
    return lookups, out


@pytest.mark.parametrize("column", [False, True])
def test_the_best_row_of_each_position_by_trying_all(column: bool) -> None:
    net: Any = nets.words(column=column).double()
    shape = (3, 2) if column else (3, 12)
    ids = torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(0))
    lookups, out = looked(net, ids)
    out.square().sum().backward()
    tokens = Tokens(ids, uses_of(ids, lookups), torch.int64)
    best, change = tokens.proposals(lookups)
    for position in torch.cartesian_prod(torch.arange(3), torch.arange(shape[1])).tolist():
        n, place = position
        table = net.other if column and place == 1 else net.table
        look = lookups.made[place if column else 0]
        assert look.found.grad is not None
        gradient = look.found.grad[n] if column else look.found.grad[n, place]
        gains = [float(gradient @ (row - table.weight[ids[n, place]])) for row in table.weight]
        assert float(change[n, place]) == pytest.approx(min(gains), rel=1e-9, abs=1e-12)
        assert gains[int(best[n, place])] == pytest.approx(min(gains), rel=1e-9, abs=1e-12)


def test_whose_ids_a_look_reads() -> None:
    ids = torch.arange(24).reshape(12, 2) % 20
    whole, _ = looked(nets.words(), ids.reshape(2, 12))
    assert uses_of(ids.reshape(2, 12), whole) == [Use(0, None)]
    assert uses_of(ids.reshape(2, 12) + 1, whole) == []
    columns, _ = looked(nets.words(column=True), ids)
    assert uses_of(ids, columns) == [Use(0, 0), Use(1, 1)]


def test_without_noting_nothing_of_the_model_changes() -> None:
    net, ids = nets.words(), torch.arange(24).reshape(2, 12)
    lookups = Lookups()
    with (
        tapped(Namer(net, {}), plain("running"), others=lookups.overrides()) as tap,
        torch.no_grad(),
    ):
        tap.start()
        assert torch.equal(net(ids), net(ids))
        inside = net(ids)
    assert torch.allclose(inside, net(ids))
    assert not lookups.made


def test_only_what_promises_something_is_exchanged() -> None:
    ids, best = torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 3), 7)
    change = torch.tensor([[-1.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
    found = exchanged(ids, best, change, 6, torch.Generator().manual_seed(0))
    assert found.tolist() == [[7, 0, 0], [0, 7, 0]]
    assert ids.sum() == 0
    assert exchanged(ids, best, 0 * change, 6, torch.Generator()) is ids
