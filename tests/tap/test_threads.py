"""An audit beside other work of its process: it takes its own calls, in whatever thread, and no others."""

from __future__ import annotations

import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import bnaudit
from bnaudit.records.layer import FirstOrder
from bnaudit.tap.call import BatchNormCall, normalise, plain
from bnaudit.tap.dispatch import not_the_models, one_at_a_time, tapped, whole_audit
from bnaudit.tap.naming import Namer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    for _ in range(5):
        made(torch.randn(32, 6))
    return made


@contextmanager
def elsewhere(work: Callable[[], None]) -> Iterator[None]:
    """Repeats some work in another thread, until the context ends; its errors are raised here."""
    stop, errors = threading.Event(), list[BaseException]()

    def repeat() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


class InstanceNormed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(1, 4, 3), nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = super().forward(x[:, None])  # type: ignore[no-untyped-call]
        return normed


def scripted() -> nn.Module:
    return torch.jit.script(net(3))


def checkpointed() -> nn.Module:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net(4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = checkpoint(self.inner, x.requires_grad_(), use_reentrant=False)
            return out

    return Checkpointed()


@pytest.mark.parametrize("make", [lambda: net(2), InstanceNormed, scripted, checkpointed])
@pytest.mark.parametrize("training", [True, False])
def test_other_threads_compute_as_if_there_were_no_audit(
    make: Callable[[], nn.Module], training: bool
) -> None:
    other, x = make().train(training), torch.randn(16, 6)
    state = copy.deepcopy(other.state_dict())

    def step() -> list[Tensor | None]:
        other.load_state_dict(state)
        other.zero_grad()
        y = other(x.clone())
        y.square().mean().backward()
        found = [
            y.detach(),
            *(None if p.grad is None else p.grad.clone() for p in other.parameters()),
        ]
        return [*found, *(b.clone() for b in other.buffers())]

    wanted, steps = step(), 0

    def same() -> None:
        nonlocal steps
        steps += 1
        for found, value in zip(step(), wanted, strict=True):
            if value is None:
                assert found is None
            else:
                torch.testing.assert_close(found, value, rtol=0, atol=0)

    audited, data = net(), torch.randn(64, 6)
    alone = bnaudit.audit(audited, data=data)
    with elsewhere(same):
        beside = bnaudit.audit(audited, data=data)
    assert steps > 0
    assert beside.layers[0].first_order == alone.layers[0].first_order
    assert [layer.label for layer in beside.layers] == ["1"]


class Pooled(nn.Module):
    """Its branches run in threads of its own."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)
        self.bn, self.own = nn.BatchNorm1d(4), OwnNorm(4)
        self.__dict__["pool"] = pool

    def forward(self, x: Tensor) -> Tensor:
        branches: list[Callable[[], Tensor]]
        branches = [lambda: self.bn(self.a(x)), lambda: self.own(self.b(x))]
        pool: ThreadPoolExecutor | None = self.__dict__["pool"]
        if pool is None:
            a, b = (branch() for branch in branches)
        else:
            a, b = (pool.submit(branch).result() for branch in branches)
        out: Tensor = self.fc(torch.tanh(a + b))
        return out


class OwnNorm(nn.Module):
    """A layer of another class that calls BatchNorm on buffers of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var)  # type: ignore[arg-type]


def test_the_models_own_threads_are_measured() -> None:
    data = torch.randn(64, 6)
    with ThreadPoolExecutor(2) as pool:
        threaded = bnaudit.audit(Pooled(pool), data=data)
        plainly = bnaudit.audit(Pooled(None), data=data)
        assert [layer.label for layer in threaded.layers] == ["bn", "own"]
        for a, b in zip(threaded.layers, plainly.layers, strict=True):
            assert isinstance(a.first_order, FirstOrder)
            assert isinstance(b.first_order, FirstOrder)
            assert a.first_order.measured == b.first_order.measured
        # The pool's threads are as before.
        other, caught = net(1), list[str]()

        def handler(call: BatchNormCall) -> Tensor:
            caught.append(call.name)
            return normalise(call, call.x, "batch")

        with tapped(Namer(nn.Identity(), {}), handler):
            pool.submit(other, data).result()
        assert not caught


def test_a_loss_network_is_none_of_the_model() -> None:
    critic, data = net(5), torch.randn(64, 6)
    critic = nn.Sequential(nn.Linear(3, 6), critic).train()
    before = copy.deepcopy(critic.state_dict())
    report = bnaudit.audit(net(), data=data, loss=lambda out, _: critic(out).square().mean())
    assert [layer.label for layer in report.layers] == ["1"]
    tracked = "1.1.num_batches_tracked"
    assert int(critic.state_dict()[tracked]) > int(before[tracked])  # as its own code says


def test_nesting_is_undone_in_order() -> None:
    model, x = net(), torch.randn(8, 6)
    names: list[str] = []

    def handler(call: BatchNormCall) -> Tensor:
        names.append(call.name)
        return normalise(call, call.x, "batch")

    with tapped(Namer(model, {}), handler) as tap:
        tap.start()
        model(x)
        with not_the_models():
            model[2](model[0](x))
            F.batch_norm(model[0](x), None, None, training=True)
        model(x)
    model(x)
    assert names == ["1", "1"]


def test_torchscripts_executor_is_switched_back(tmp_path: object) -> None:
    path = f"{tmp_path}/m.ts"
    torch.jit.save(torch.jit.script(net()), path)
    before = torch._C._jit_set_profiling_mode(True)
    try:
        for model in (path, net(), torch.jit.script(net())):
            bnaudit.audit(model, data=torch.randn(64, 6))
            assert torch._C._jit_set_profiling_mode(True)
        with whole_audit():
            assert not torch._C._jit_set_profiling_mode(False)
        assert torch._C._jit_set_profiling_mode(True)
    finally:
        torch._C._jit_set_profiling_mode(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_of_a_fork_beside_an_audit_can_audit() -> None:
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with one_at_a_time:
            locked.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if one_at_a_time.acquire(timeout=5) else 1)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_worker_threads_of_autograd_see_the_override() -> None:
    """On the CPU backward runs in the caller's thread; reentrant backward leads to workers beside it."""
    model, caught = net(), list[str]()

    class Again(torch.autograd.Function):
        @staticmethod
        def forward(_: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_: object, grad: Tensor) -> Tensor:
            with torch.enable_grad():
                model(torch.randn(4, 6)).sum().backward()
            return grad

    x = torch.ones(3, requires_grad=True)
    for _ in range(3):
        x = Again.apply(x)  # type: ignore[no-untyped-call]

    def replay(call: BatchNormCall) -> Tensor:
        caught.append(call.name)
        return normalise(call, call.x, "batch")

    with tapped(Namer(model, {}), plain("batch"), replay):
        x.sum().backward()
    assert caught == ["1"] * 3
