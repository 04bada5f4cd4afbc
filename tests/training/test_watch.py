"""A watched training: the same weights to the last bit, and numbers that are those of a float64 reference."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fixtures.nets import DigitsResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bnaudit
from bnaudit.errors import UsageError
from bnaudit.records.values import Skipped
from bnaudit.tap.dispatch import KEY, one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.training import WatchRecord

ROOT = Path(__file__).parents[2]


def untouched(net: nn.Module) -> bool:
    hooks = [m._forward_pre_hooks or m._forward_hooks or m._backward_hooks for m in net.modules()]
    taken = torch._C._dispatch_tls_is_dispatch_key_included(KEY)
    free = one_at_a_time.acquire(blocking=False)
    one_at_a_time.release()
    return not any(hooks) and not taken and free


def small(*, affine: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, affine=affine), nn.ReLU(), nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


def passes(net: nn.Module, count: int, *, batch: int = 16, after: Any = None) -> None:
    for _ in range(count):
        net(torch.randn(batch, 1, 8, 8)).square().mean().backward()
        if after is not None:
            after()


def seen_in(net: nn.Module, run: Callable[[], Any], **options: Any) -> list[WatchRecord]:
    records: list[WatchRecord] = []
    with bnaudit.watch(net, to=records.append, **options):
        run()
    assert untouched(net)
    return records


@pytest.mark.parametrize("every", [1, 3])
def test_the_trained_network_is_the_same_to_the_last_bit(every: int) -> None:
    def trained(*, watched: bool) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(DigitsResNet(), nn.Dropout(0.3)).train()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        with (
            bnaudit.watch(net, every=every, to=list["WatchRecord"]().append)
            if watched
            else nullcontext()
        ):
            for _ in range(7):
                x, y = torch.randn(32, 1, 8, 8), torch.randint(0, 10, (32,))
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
        return net, torch.get_rng_state()

    plain, drawn = trained(watched=False)
    watched, also = trained(watched=True)
    assert torch.equal(drawn, also)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name


def reference(net: nn.Module, x: Tensor) -> list[tuple[float, float, float]]:
    """|gamma|/sigma (median), |g|/|G| and the share removed of each BatchNorm, written out in float64."""
    y, kept = x.double(), []
    for module in copy.deepcopy(net).double().train().children():
        before, y = y, module(y)
        y.retain_grad()
        if isinstance(module, nn.BatchNorm2d):
            kept.append((module, before, y))
    y.square().mean().backward()
    found = []
    for module, before, after in kept:
        var = before.detach().var((0, 2, 3), correction=0) + module.eps
        gain = (module.weight.detach().abs() if module.affine else 1) / var.sqrt()
        assert after.grad is not None
        assert before.grad is not None
        removed = 1 - before.grad.square().sum() / (gain[:, None, None] * after.grad).square().sum()
        middle = gain.quantile(0.5)  # linear: the mean of the two middle ones
        ratio = before.grad.norm() / after.grad.norm()
        found.append((float(middle), float(ratio), float(removed)))
    return found


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_numbers_are_those_of_the_definition(affine: bool, layout: torch.memory_format) -> None:
    net = small(affine=affine).to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.2, 2)
    expected = reference(net, x)
    (record,) = seen_in(net, lambda: net(x).square().mean().backward())
    assert [layer.name for layer in record.layers] == ["1", "4"]
    for layer, (gain, ratio, removed) in zip(record.layers, expected, strict=True):
        assert layer.batch_gain == pytest.approx(gain, rel=1e-5)
        assert layer.measured == pytest.approx(ratio, rel=1e-5)
        assert layer.predicted == pytest.approx(ratio, rel=1e-5)
        assert layer.removed == pytest.approx(removed, abs=1e-5)
        assert layer.dead_gradient == 0
    first = net[1]
    assert isinstance(first, nn.BatchNorm2d)
    assert first.running_var is not None
    stored = first.running_var.double() + first.eps
    gain_stored = (
        first.weight.detach().abs() if affine else torch.ones(6)
    ).double() / stored.sqrt()
    assert record.layers[0].gain == pytest.approx(float(gain_stored.quantile(0.5)))
    assert record.layers[0].leak_maximum == pytest.approx(float((first.eps / stored).max()))


def test_dead_channels_and_where_little_survives() -> None:
    """With two rows a projection takes nearly everything: two norms in float32 would lose it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).train()
    with torch.no_grad():
        for weight, place in ((net[1].weight, 3), (net[2].weight, (slice(None), 5))):
            assert isinstance(weight, Tensor)
            weight[place] = 1e-6 if place == 3 else 0
    x = torch.randn(2, 5)
    double = copy.deepcopy(net).double()
    a = double[0](x.double()).detach().requires_grad_()
    z = double[1](a)
    z.retain_grad()
    double[2](z).square().mean().backward()
    (record,) = seen_in(net, lambda: net(x).square().mean().backward())
    (layer,) = record.layers
    assert (layer.dead_gamma, layer.dead_gradient) == (1, 1)
    assert a.grad is not None
    assert z.grad is not None
    assert layer.predicted == pytest.approx(float(a.grad.norm() / z.grad.norm()), rel=1e-3)
    assert layer.removed == pytest.approx(1, abs=1e-4)


def test_what_counts_as_a_step() -> None:
    net = small()

    def run() -> None:
        x = torch.randn(8, 1, 8, 8)
        passes(net, 2)  # 0 and 1
        net.eval()
        net(x).sum().backward()
        net.train()
        with torch.no_grad():
            net(x)
        with torch.inference_mode():
            net(x)
        bnaudit.audit(net, data=x, labels=torch.zeros(8, dtype=torch.long), metrics=())
        passes(net, 3)  # 2, 3, 4

    records = seen_in(net, run, every=2)
    assert [(r.step, r.counts, r.passes) for r in records] == [
        (0, "passes", 0), (2, "passes", 2), (4, "passes", 4),
    ]  # fmt: skip


def test_updates_count_where_the_optimizer_is_given() -> None:
    net = small()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)

    def run() -> None:
        for _ in range(4):
            passes(net, 3)
            optimizer.step()

    records = seen_in(net, run, optimizer=optimizer, every=2, step=10)
    assert [(r.step, r.counts, r.passes) for r in records] == [
        (10, "updates", 0), (12, "updates", 6),
    ]  # fmt: skip
    assert not optimizer._optimizer_step_post_hooks


def test_the_loss_and_steps_that_are_given() -> None:
    net, records = small(), list["WatchRecord"]()
    with bnaudit.watch(net, to=records.append, every=10) as watch:
        for step in (10, 11, 20):
            watch.at(step)
            loss = net(torch.randn(4, 1, 8, 8)).square().mean()
            assert watch.loss(loss) is loss
            loss.backward()
    assert [(r.step, r.counts) for r in records] == [(10, "given"), (20, "given")]
    assert records[-1].loss == pytest.approx(float(loss.detach()))
    assert watch.last is records[-1]


def test_a_pass_that_is_no_call_of_the_network() -> None:
    net, records = small(), list["WatchRecord"]()
    with bnaudit.watch(net, every=1, to=records.append) as watch:
        for whole in (False, True):
            with watch.forward():
                x = torch.randn(8, 1, 8, 8)
                y = net(x) if whole else net[1:](net[0](x))
            y.square().mean().backward()
        with pytest.raises(ValueError, match="mine"), watch.forward():
            raise ValueError("mine")
    assert [r.step for r in records] == [0, 1]
    for record in records:
        assert [layer.name for layer in record.layers] == ["1", "4"]
        assert all(isinstance(layer.measured, float) for layer in record.layers)
    assert untouched(net)


def test_a_frozen_layer_is_measured_with_what_it_normalises_with() -> None:
    net = small()
    passes(net, 3)
    net[1].eval()
    (record,) = seen_in(net, lambda: passes(net, 1))
    frozen, other = record.layers
    assert frozen.removed == 0
    assert frozen.batch_gain == pytest.approx(frozen.gain)
    assert frozen.measured == pytest.approx(frozen.predicted, rel=1e-5)
    assert other.removed != 0


def test_activation_checkpointing() -> None:
    plain, records = small(), {}
    x = torch.randn(16, 1, 8, 8, requires_grad=True)

    class Part(nn.Module):
        def __init__(self, *, reentrant: bool | None) -> None:
            super().__init__()
            self.net, self.reentrant = copy.deepcopy(plain), reentrant

        def forward(self, x: Tensor) -> Tensor:
            if self.reentrant is None:
                return self.net(x)
            return checkpoint(self.net, x, use_reentrant=self.reentrant)

    def run(net: nn.Module) -> None:
        net(x).square().mean().backward()

    for reentrant in (None, False, True):
        net = Part(reentrant=reentrant)
        (records[reentrant],) = seen_in(net, partial(run, net))
    for layer, other in zip(records[None].layers, records[False].layers, strict=True):
        assert other.measured == pytest.approx(layer.measured, rel=1e-6)
        assert other.predicted == pytest.approx(layer.predicted, rel=1e-6)
    for layer, other in zip(records[None].layers, records[True].layers, strict=True):
        assert isinstance(other.measured, Skipped)
        assert "reentrant checkpointing" in other.measured.reason
        assert other.batch_gain == pytest.approx(layer.batch_gain, rel=1e-6)


def test_autocast_sees_the_pass_as_it_runs() -> None:
    net = small()

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(torch.randn(64, 1, 8, 8)).square().mean()
        loss.backward()

    (record,) = seen_in(net, run)
    for layer in record.layers:
        assert layer.predicted == pytest.approx(layer.measured, rel=2e-2)


def test_gradients_that_overflow_have_a_reason() -> None:
    net = small()

    def run() -> None:
        (net(torch.randn(8, 1, 8, 8)).square().mean() * float("inf")).backward()

    (record,) = seen_in(net, run)
    assert record.layers[0].measured == Skipped("the gradient is not finite")
    assert isinstance(record.layers[0].batch_gain, float)


def test_several_calls_and_layers_that_are_not_called() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.idle = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
            self.norm = nn.InstanceNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            weight = nn.functional.batch_norm(torch.ones(1, 4, 3), None, None, training=True)
            y = self.bn(self.bn(x) * 2 + weight.sum())
            return self.norm(y.view(-1, 2, 2))

    net = Twice().train()
    (record,) = seen_in(net, lambda: net(torch.randn(8, 4)).square().sum().backward())
    assert [layer.name for layer in record.layers] == ["bn", "bn#2", "idle"]
    assert record.layers[0].measured == Skipped("its input needs no gradient")
    assert isinstance(record.layers[1].measured, float)
    assert isinstance(record.layers[2].measured, Skipped)
    assert "no call" in record.layers[2].measured.reason


def test_a_pass_without_backward_and_one_that_backward_does_not_reach() -> None:
    net = small()
    records = seen_in(net, lambda: [net(torch.randn(8, 1, 8, 8)) for _ in range(2)], every=1)
    assert [r.step for r in records] == [0, 1]
    assert records[0].layers[0].measured == Skipped("no backward pass reached it")
    assert isinstance(records[0].layers[0].batch_gain, float)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_training_raises_passes_and_leaves_nothing(kind: type[BaseException]) -> None:
    net = small()
    records: list[WatchRecord] = []
    before = net[4].forward

    def fails(_: Tensor) -> Tensor:
        raise kind("mine")

    def run() -> None:
        passes(net, 1)
        net[4].forward = fails
        passes(net, 1)

    with pytest.raises(kind, match="mine"), bnaudit.watch(net, every=1, to=records.append):
        run()
    assert untouched(net)
    assert [r.step for r in records] == [0]
    net[4].forward = before
    # After an interrupt without an end of the watch the next pass is a usual one.
    watch = bnaudit.watch(net, every=1, to=records.append)
    net[4].forward = fails
    with pytest.raises(kind, match="mine"):
        passes(net, 1)
    net[4].forward = before
    passes(net, 1)
    watch.stop()
    assert untouched(net)
    assert [r.step for r in records] == [0, 1]
    assert len(records[-1].layers) == 2


def test_copies_and_pickles_have_no_watch() -> None:
    net, records = small(), list["WatchRecord"]()
    with bnaudit.watch(net, every=1, to=records.append):
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301  # our own
            passes(other, 1)
        data = pickle.dumps(net)
        assert b"bnaudit" not in data
        passes(net, 1)
    assert len(records) == 1


def test_a_compiled_network_has_stored_values_and_one_warning() -> None:
    net = small()
    compiled: Any = torch.compile(net, backend="eager")
    records: list[WatchRecord] = []
    with (  # noqa: PT031  # the loop is what warns once
        pytest.warns(UserWarning, match="torch.compile hides") as told,
        bnaudit.watch(compiled, every=1, to=records.append) as watch,
    ):
        for _ in range(2):
            loss = watch.loss(compiled(torch.randn(8, 1, 8, 8)).square().mean())
            loss.backward()
    assert len([w for w in told if "torch.compile hides" in str(w.message)]) == 1
    assert [layer.name for layer in records[0].layers] == ["1", "4"]
    assert isinstance(records[0].layers[0].gain, float)
    assert isinstance(records[0].layers[0].measured, Skipped)
    assert isinstance(records[0].loss, float)
    torch._dynamo.reset()


DATA_PARALLEL = """
import os, sys
import torch
from tests.training.test_watch import passes, seen_in, small

store = torch.distributed.FileStore(sys.argv[1], 1)
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
net = torch.nn.parallel.DistributedDataParallel(small())
(record,) = seen_in(net, lambda: passes(net, 1))
assert [layer.name for layer in record.layers] == ["1", "4"]
assert isinstance(record.layers[0].measured, float)
print("seen", flush=True)
os._exit(0)  # taking a process group down can wait for a thread that waits for Python's lock
"""


def test_data_parallel_in_processes(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DATA_PARALLEL, str(tmp_path / "store")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "seen\n", done.stderr


def test_other_processes_do_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("RANK", "1")
    net = small()
    with bnaudit.watch(net, to=tmp_path / "run.jsonl"):
        passes(net, 1)
    assert list(tmp_path.iterdir()) == []


def test_start_and_stop() -> None:
    net, records = small(), list["WatchRecord"]()
    watch = bnaudit.watch(net, every=1, to=records.append)
    watch.start()
    passes(net, 1)
    watch.stop()
    watch.stop()
    passes(net, 1)
    watch.start()
    passes(net, 1)
    watch.stop()
    assert [r.step for r in records] == [0, 1]
    assert untouched(net)


def test_what_cannot_be_watched() -> None:
    net = small()
    for model, message in (
        (3, "int is no torch.nn.Module"),
        (nn.DataParallel(net), "DataParallel runs copies"),
        (torch.jit.script(small()), "ScriptModule cannot be watched"),
    ):
        with pytest.raises(UsageError, match=message):
            bnaudit.watch(model, to=print)  # type: ignore[arg-type]
    for options, message in (
        ({"every": 0}, "every=0"),
        ({"optimizer": "sgd"}, "no torch.optim.Optimizer"),
        ({"to": []}, "names nothing"),
        ({"to": 3}, "takes no records"),
    ):
        with pytest.raises(UsageError, match=message):
            bnaudit.watch(net, **{"to": print, **options})  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="no BatchNorm module"):
        bnaudit.watch(nn.Linear(2, 2), to=print)._handles[0].remove()
    watch = bnaudit.watch(net, to=print)
    with pytest.warns(UserWarning, match="saw no training pass"):
        watch.stop()
    assert untouched(net)
