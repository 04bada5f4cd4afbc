"""The model comes back as it was, and nothing of the run is kept, also when it fails."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

from tests.theory import weight_space_nets as nets
from tests.theory.weight_space_reference import reason, run

X = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0))


class Overwriting(nets.Base):
    """Overwrites what the convolution has read: harmless where no weight gradient needs it."""

    def __init__(self, early: bool = False) -> None:
        super().__init__()
        self.early = early
        self.read: weakref.ref[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(x)
        h = y[:, :2]
        self.read = weakref.ref(h)
        x = self.a(h)
        if self.early:
            y.zero_()
        z = self.bn(x)
        y.zero_()
        return self.finish(z)


def test_a_model_that_fails_with_live_parameters() -> None:
    assert "overwritten in place" in reason(run(Overwriting(early=True).eval(), X), "bn")
    found = reason(run(Overwriting().eval(), X), "bn")
    assert found.startswith("the weights cannot be differentiated: one of the variables")


def test_the_model_comes_back_as_it_was() -> None:
    net = nets.Base().eval()
    net.b.weight.requires_grad_(False)
    net.a.weight.grad = torch.ones_like(net.a.weight)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    run(net, X, dtype="float32")
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["b.weight"]
    assert [n for n, p in net.named_parameters() if p.grad is not None] == ["a.weight"]
    assert bool((net.a.weight.grad == 1).all())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_tf32_is_off_while_it_measures() -> None:
    seen: list[bool] = []

    class Watched(nets.Base):
        def feed(self, x: Tensor) -> Tensor:
            if self.a.weight.requires_grad:
                seen.append(
                    torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
                )
            return self.a(x)

    assert torch.backends.cudnn.allow_tf32
    run(Watched().eval(), X)
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


class Reading(nets.Base):
    def __init__(self) -> None:
        super().__init__()
        self.read: weakref.ref[Tensor] | None = None

    def feed(self, x: Tensor) -> Tensor:
        h = self.b(x)[:, :2]
        self.read = weakref.ref(h)
        return self.a(h)


@pytest.mark.parametrize("cls", [Reading, Overwriting])
def test_nothing_is_kept(cls: type[Reading | Overwriting]) -> None:
    """What autograd saves, and the feeder refers to, goes with the run, also when that fails."""
    net = cls().double().eval()  # else a copy is run
    gc.collect()
    gc.disable()
    try:
        run(net, X)
        assert net.read is not None
        assert net.read() is None
    finally:
        gc.enable()
