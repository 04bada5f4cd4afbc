"""What a run leaves behind: nothing, also where an error or Ctrl-C ends it inside any of its stages."""

from __future__ import annotations

import random
import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import bnaudit
from bnaudit.metrics import METRICS
from bnaudit.tap import dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERYTHING: dict[str, Any] = {
    "metrics": tuple(METRICS),
    "verify_gradients": 1,
    "verify_second_order": 1,
    "channels": True,
}


class Net(nn.Module):
    """With a buffer, a plain attribute and a hook that a run must not change, and mixed flags."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8)
        )
        self.fc = nn.Linear(8, 3)
        self.register_buffer("count", torch.zeros(()))
        self.kept = torch.zeros(8)
        self.seen = 0
        self.register_forward_hook(Net.look)

    @staticmethod
    def look(module: nn.Module, _: Any, __: Any) -> None:
        assert isinstance(module, Net)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.get_buffer("count").add_(1)
        h = self.body(x)
        self.kept = h.mean(0)
        out: torch.Tensor = self.fc(torch.relu(h))
        return out


def make() -> Net:
    net = Net()
    for _ in range(3):
        net(torch.randn(16, 6)).square().mean().backward()
    net.kept = torch.ones(8)
    net.train()
    net.body[1].eval()
    net.body[0].weight.requires_grad_(False)
    return net


def of_model(net: Net) -> dict[str, Any]:
    found: dict[str, Any] = {name: t.detach().clone() for name, t in net.state_dict().items()}
    found |= {
        f"{n}.grad": None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()
    }
    found |= {f"{n}.flag": p.requires_grad for n, p in net.named_parameters()}
    found |= {f"{n}.id": id(t) for n, t in (*net.named_parameters(), *net.named_buffers())}
    for name, sub in net.named_modules():
        found[f"{name}.training"] = sub.training
        hooks = (sub._forward_hooks, sub._forward_pre_hooks, sub._backward_hooks)
        found[f"{name}.hooks"] = tuple(map(tuple, hooks))
    found["attributes"] = (net.kept.clone(), net.seen, set(vars(net)))
    return found


def of_process() -> dict[str, Any]:
    """Everything of PyTorch, numpy and Python that a run could have switched."""
    backends = {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
        "mkldnn": torch.backends.mkldnn.enabled,
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "matmul": torch.get_float32_matmul_precision(),
        "sdp": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
        "flush": torch.ones(1).mul(1e-42).item() > 0,
    }
    profiling = torch._C._jit_set_profiling_mode(True)
    torch._C._jit_set_profiling_mode(profiling)
    return backends | {
        "random": (torch.get_rng_state(), str(np.random.get_state()), random.getstate()),
        "grad": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_anomaly_enabled(),
        ),
        "autocast": torch.is_autocast_enabled("cpu"),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": (torch.get_default_dtype(), torch.empty(0).device),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "profiling": profiling,
        "dispatcher": [
            torch._C._dispatch_dump(f"aten::{n}") for n in ("batch_norm", "instance_norm")
        ],
        "taken": torch._C._dispatch_tls_is_dispatch_key_included(dispatch.KEY),
        "lock": _is_free(),
        "modes": torch._C._len_torch_dispatch_stack(),
        "signals": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)),
        "pythreads": threading.active_count(),
    }


def _is_free() -> bool:
    """Whether another thread could audit now."""
    found: list[bool] = []

    def ask() -> None:
        found.append(dispatch.one_at_a_time.acquire(blocking=False))
        if found[0]:
            dispatch.one_at_a_time.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@contextmanager
def nothing_left(net: Net) -> Iterator[None]:
    before = of_model(net), of_process()
    yield
    for was, now in zip(before, (of_model(net), of_process()), strict=True):
        assert was.keys() == now.keys()
        for key, value in was.items():
            assert same(value, now[key]), key


def audit(net: nn.Module) -> Any:
    data, labels = torch.ones(24, 6) * torch.linspace(-1, 1, 24)[:, None], torch.arange(24) % 3
    return bnaudit.audit(net, data=data, labels=labels, batch_size=12, **EVERYTHING)


def landscape(net: nn.Module) -> Any:
    data, labels = torch.ones(24, 6) * torch.linspace(-1, 1, 24)[:, None], torch.arange(24) % 3
    return bnaudit.landscape(net, data=data, labels=labels, batch_size=12, steps=2)


def test_after_a_run() -> None:
    net = make()
    audit(net)  # lazy imports set what they set once
    with nothing_left(net):
        report = audit(net)
    assert [layer.label for layer in report.layers] == ["body.1", "body.4"]


def test_after_a_landscape() -> None:
    net = make()
    landscape(net)
    with nothing_left(net):
        record = landscape(net)
    # What was not to be trained is not moved.
    assert record.groups[0].parameters == ("body.0.bias",)


def test_after_a_landscape_that_leads_nowhere() -> None:
    net = make()
    landscape(net)
    data, labels = torch.randn(24, 6), torch.arange(24) % 3
    with nothing_left(net):
        record = bnaudit.landscape(net, data=data, labels=labels, eta=(1e30, 1e38), steps=2)
    assert [point.failed > 0 for point in record.walks[0].points] == [True, True]


STAGES = [
    "bnaudit.load.live.load_live",
    "bnaudit.pipeline.read_stored",
    "bnaudit.pipeline.place_model",
    "bnaudit.measure.session.prepare",
    "bnaudit.measure.session.choose_loss",
    "bnaudit.pipeline.collect_first_order",
    "bnaudit.pipeline.measure_all",
    "bnaudit.pipeline.verify_conversion",
    "bnaudit.pipeline.full_report",
    "bnaudit.pipeline.judge",
]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("stage", STAGES)
def test_after_an_error_at_the_door_of_a_stage(
    stage: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make()
    audit(net)

    def broken(*_: Any, **__: Any) -> None:
        raise error

    with nothing_left(net), monkeypatch.context() as during:
        during.setattr(stage, broken)
        if (stage, error) == ("bnaudit.pipeline.read_stored", RuntimeError):
            pytest.skip("told as a note")
        with pytest.raises(error):
            audit(net)


CLEANING = {"__exit__", "restore", "<genexpr>"}
"""A generator that any() left is closed by the collector, where no signal is handled."""


def interrupting(after: int) -> Callable[..., Any]:
    """A tracing function of the interpreter that raises at the so many-th call of one of our functions."""
    left = after

    def trace(frame: Any, event: str, _: Any) -> None:
        nonlocal left
        file = frame.f_code.co_filename
        # Where the handler of a signal runs: Python code of ours, but no clean-up that is under way.
        if event == "call" and "/bnaudit/" in file and frame.f_code.co_name not in CLEANING:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    return trace


def calls(run: Callable[[nn.Module], Any]) -> int:
    count = 0

    def trace(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        file = frame.f_code.co_filename
        if event == "call" and "/bnaudit/" in file and frame.f_code.co_name not in CLEANING:
            count += 1

    sys.settrace(trace)
    try:
        run(make())
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("run", [audit, landscape])
def test_after_ctrl_c_anywhere(run: Callable[[nn.Module], Any]) -> None:
    """Spread over all calls of a run, where `finally` has to put everything back."""
    net = make()
    run(net)
    whole = calls(run)
    assert whole > 1000
    rng = random.Random(0)  # noqa: S311
    for after in sorted(rng.sample(range(1, whole), 12)):
        with nothing_left(net):
            sys.settrace(interrupting(after))
            try:
                run(net)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
