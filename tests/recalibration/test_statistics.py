"""The statistics against float64 definitions, and against PyTorch's own update."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnaudit
from bnaudit.data.batch import Batch
from bnaudit.data.whole import merged
from bnaudit.recalibration.pool import Pool
from tests.recalibration.nets import ROWS, labels, pre_activation, reference, rows, two

if TYPE_CHECKING:
    from collections.abc import Callable

NETS = {"two": two, "pre_activation": pre_activation}


def stats(report: bnaudit.Recalibration) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        layer.name: (
            torch.tensor(layer.running_mean, dtype=torch.float64),
            torch.tensor(layer.running_var, dtype=torch.float64),
        )
        for layer in report.layers
        if layer.running_mean is not None
    }


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_parts_of_any_size_are_one_pool(sizes: list[int], shift: float) -> None:
    """Far from 0 the difference of sums would have lost all digits."""
    draw = torch.Generator().manual_seed(sum(sizes))
    x = torch.randn(sum(sizes), 3, 2, generator=draw, dtype=torch.float64) + shift
    parts = [Pool.of(part) for part in x.split(sizes)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merged(part)
    values = x.transpose(0, 1).flatten(1).numpy()
    assert whole.count == values.shape[1]
    np.testing.assert_allclose(whole.mean, values.mean(1), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(whole.variance, values.var(1), rtol=1e-8)
    if whole.count > 1:
        np.testing.assert_allclose(whole.unbiased, values.var(1, ddof=1), rtol=1e-8)


@pytest.mark.parametrize("batch_size", [7, 16, ROWS])
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_front_to_back_is_the_definition_at_any_batch_size(
    make: Callable[[], nn.Module], batch_size: int
) -> None:
    net, x = make(), rows()
    report = bnaudit.recalibrate(net, data=x, batch_size=batch_size, dtype="float64")
    assert report.passes == 2  # all rows at once, and one that finds nothing moving
    for name, (mean, var) in reference(net, x).items():
        found = stats(report)[name]
        sigma = (var + 1e-5).sqrt()
        assert ((found[0] - mean).abs() / sigma).max() < 1e-6
        assert ((found[1] - var).abs() / sigma.square()).max() < 1e-6


def test_batches_that_cannot_be_put_together_take_as_many_passes_as_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same statistics, one layer a pass."""
    monkeypatch.setattr("bnaudit.recalibrating.merged", list)
    net, x = two(), rows()
    report = bnaudit.recalibrate(net, data=x, batch_size=5, dtype="float64")
    assert report.passes == 3
    for name, (mean, var) in reference(net, x).items():
        torch.testing.assert_close(stats(report)[name][0], mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(stats(report)[name][1], var, rtol=1e-6, atol=1e-6)


def test_large_batches_hold_every_row_once() -> None:
    x = torch.arange(7.0).reshape(7, 1)
    batches = [Batch((part, torch.tensor(2.0)), None) for part in x.split(3)]
    assert merged(batches) == batches  # an input without rows is given as it is
    (whole,) = merged([Batch((part,), part[:, 0]) for part in x.split(3)])
    assert torch.equal(whole.inputs[0], x)
    assert whole.labels is not None
    assert torch.equal(whole.labels, x[:, 0])
    odd = [Batch((torch.zeros(2, 3),)), Batch((torch.zeros(2, 4),))]
    assert merged(odd) == odd


def test_a_last_batch_of_one_row_counts() -> None:
    net, x = two(), rows(9)
    loader = [(x[:4],), (x[4:8],), (x[8:],)]
    for data in (x, loader):
        report = bnaudit.recalibrate(net, data=data, dtype="float64")
        mean, var = reference(net, x)["bn2"]
        found = stats(report)["bn2"]
        torch.testing.assert_close(found[0], mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(found[1], var, rtol=1e-6, atol=1e-6)
        assert report.layers[0].values == 9 * 49


def test_one_pass_over_even_batches_is_what_update_bn_aims_at() -> None:
    """update_bn averages the variances of batches and leaves out what lies between their means: at one
    batch both are the same; over several the pooled one is the definition."""
    net, x = two(), rows(64)
    ours = stats(bnaudit.recalibrate(net, data=[(x,)], way="one-pass"))
    theirs = copy.deepcopy(net)
    torch.optim.swa_utils.update_bn([x], theirs)
    for name in ("bn1", "bn2"):
        layer = theirs.get_submodule(name)
        torch.testing.assert_close(ours[name][0].float(), layer.running_mean)
        torch.testing.assert_close(ours[name][1].float(), layer.running_var)
    split = stats(bnaudit.recalibrate(net, data=list(zip(x.split(8))), way="one-pass"))
    values = net.get_submodule("conv1")(x).detach().double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(split["bn1"][1], values.var(1), rtol=1e-5, atol=0)
    torch.optim.swa_utils.update_bn(list(x.split(8)), theirs)
    off = (theirs.get_submodule("bn1").running_var.double() - values.var(1)).abs() / values.var(1)
    assert off.max() > 0.01


def test_the_ways_differ_where_batches_do() -> None:
    net, x = two(), rows()
    each = {
        way: stats(bnaudit.recalibrate(net, data=x, batch_size=4, way=way))["bn2"][1]
        for way in ("one-pass", "front-to-back")
    }
    wanted = reference(net, x)["bn2"][1]
    errors = {way: ((var - wanted).abs() / wanted).max() for way, var in each.items()}
    assert errors["front-to-back"] < 1e-4 < errors["one-pass"]


def test_a_live_module_is_written_only_when_asked() -> None:
    net, x = two(), rows()
    y = labels(net, x)
    before = copy.deepcopy(net.state_dict())
    report = bnaudit.recalibrate(net, data=x, labels=y)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    net.train()
    bnaudit.recalibrate(net, data=x, labels=y, write=True)
    assert net.training
    changed = {k for k, v in net.state_dict().items() if not torch.equal(before[k], v)}
    assert changed == {f"bn{i}.running_{s}" for i in (1, 2) for s in ("mean", "var")}
    torch.testing.assert_close(net.get_buffer("bn2.running_var").double(), stats(report)["bn2"][1])
    assert int(net.get_buffer("bn1.num_batches_tracked")) == 7
    net.eval()
    assert (net(x).argmax(1) == y).double().mean() > 0.95
    assert report.before.accuracy.mean < report.after.accuracy.mean  # type: ignore[union-attr]


def test_some_layers_alone() -> None:
    net, x = two(), rows()
    report = bnaudit.recalibrate(net, data=x, layers="bn2", write=True, force=True)
    assert list(stats(report)) == ["bn2"]
    assert report.layers[0].kept == "not asked for (--layers)"
    alone = copy.deepcopy(net)
    values = alone.get_submodule("conv2")(
        torch.relu(alone.get_submodule("bn1")(alone.get_submodule("conv1")(x)))
    )
    torch.testing.assert_close(
        net.get_buffer("bn2.running_mean"), values.mean((0, 2, 3)).detach(), rtol=1e-4, atol=1e-5
    )
