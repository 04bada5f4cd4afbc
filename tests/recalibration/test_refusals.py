"""Where new statistics are the wrong remedy, it says so and writes nothing; --force overrides what can be."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import DataError, NoBatchNormError, RunError, UsageError
from bnaudit.records.values import Estimate
from tests.nets import Shared, make
from tests.recalibration.nets import Two, labels, reference, rows, two

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Colour(nn.Module):
    """Images of three channels, whose kernels tell the channels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 12, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)


def pixels(count: int = 96) -> Tensor:
    """Natural images in a nutshell: channels of different brightness, neighbours alike, in 0..1."""
    draw = torch.Generator().manual_seed(0)
    light = torch.rand(count, 1, 1, 1, generator=draw) * torch.tensor([0.9, 0.6, 0.3]).reshape(
        3, 1, 1
    )
    return (light + 0.1 * torch.rand(count, 3, 9, 9, generator=draw)).clamp(0, 1)


def calibrated(net: nn.Module, x: Tensor) -> nn.Module:
    """With the statistics of these rows."""
    good = copy.deepcopy(net)
    bnaudit.recalibrate(good, data=x, write=True, force=True)
    return good


def cases(report: bnaudit.Recalibration) -> set[str]:
    return {refusal.case for refusal in report.refusals}


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "in 0..255": (lambda x: x * 255, "255 times those of training"),
    "not divided": (lambda x: x / 16, "0.0625 times those of training"),
    "shifted": (lambda x: x + 0.7, "0.7 was added"),
    "reversed": (lambda x: x.flip(1), "are in the other order"),
    "reversed, then normalised": (
        lambda x: ((x * STD + MEAN).flip(1) - MEAN) / STD,
        "are in the other order",
    ),
    "not normalised": (lambda x: x * STD + MEAN, "mean and std of ImageNet are missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_inputs_that_are_not_those_of_training(name: str) -> None:
    change, told = WRONG[name]
    torch.manual_seed(0)
    x = (pixels() - MEAN) / STD
    net = calibrated(Colour().eval(), x)
    assert cases(bnaudit.recalibrate(net, data=x)) == set()
    report = bnaudit.recalibrate(net, data=change(x))
    assert cases(report) == {"inputs"}
    assert told in report.refusals[0].reason
    with pytest.raises(bnaudit.RefusedError, match="not recalibrated: ") as refused:
        bnaudit.recalibrate(net, data=change(x), write=True)
    assert refused.value.report.exit_code == refused.value.exit_code == 4
    forced = bnaudit.recalibrate(net, data=change(x), write=True, force=True)
    assert (forced.exit_code, cases(forced)) == (0, {"inputs"})


@pytest.mark.parametrize("seed", range(4))
def test_statistics_of_other_weights_are_no_wrong_inputs(seed: int) -> None:
    """Every layer's weights moved, in directions of their own; the first layer's as well."""
    torch.manual_seed(seed)
    x = (pixels() - MEAN) / STD
    net = calibrated(Colour().eval(), x)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1:
                p.add_(torch.randn_like(p) * p.std() * 0.8) if name != "fc.weight" else p
    assert "inputs" not in cases(bnaudit.recalibrate(net, data=x))


def test_weights_that_all_shrank_are_no_scaled_inputs() -> None:
    """The first layer alone would look like inputs of half the size; those behind say otherwise."""
    x = (pixels() - MEAN) / STD
    torch.manual_seed(0)
    net = calibrated(Colour().eval(), x)
    with torch.no_grad():
        for layer in (net.conv1, net.conv2):
            layer.weight.mul_(0.5)  # type: ignore[operator, union-attr]
    assert "inputs" not in cases(bnaudit.recalibrate(net, data=x))


def test_one_layer_in_two_places() -> None:
    """Its calls' inputs differ: an average fits neither. Where they are alike it may be one."""
    net = make(Shared)
    x = torch.randn(96, 6)
    assert cases(bnaudit.recalibrate(net, data=x)) >= {"shared"}

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn = nn.Linear(6, 8), nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            left, right = (self.bn(self.a(part)) for part in (x, -x.flip(0).neg()))
            return left - right

    torch.manual_seed(0)
    report = bnaudit.recalibrate(Siamese().eval(), data=torch.randn(512, 6))
    assert cases(report) == set()
    assert report.layers[0].calls == 2
    assert report.layers[0].apart.mean < 1e-5  # type: ignore[union-attr]


def test_made_up_data(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(two()).save(str(path))
    with pytest.raises(UsageError, match="no data to compute statistics of"):
        bnaudit.recalibrate(path, output=tmp_path / "fixed.pt")
    report = bnaudit.recalibrate(
        path, output=tmp_path / "fixed.pt", input_shapes={"x": (8, 1, 7, 7)}, force=True
    )
    assert cases(report) == {"made-up-data"}
    assert (tmp_path / "fixed.pt").exists()


def test_statistics_that_are_not_finite_are_never_written() -> None:
    net = two()
    with torch.no_grad():
        net.get_parameter("conv2.weight")[0] = torch.inf
    with pytest.raises(bnaudit.RefusedError, match="the statistics of bn2 are not finite"):
        bnaudit.recalibrate(net, data=rows(), write=True, force=True)
    assert torch.isfinite(net.get_buffer("bn2.running_var")).all()


def test_a_network_that_cannot_even_run_as_deployed_is_mended() -> None:
    """NaN in what is stored is what new statistics are for."""
    net, x = two(), rows()
    y = labels(net, x)
    net.get_buffer("bn1.running_var").fill_(torch.nan)
    report = bnaudit.recalibrate(net, data=x, labels=y, write=True)
    assert report.before.loss.reason == "the loss is not finite in 2 of 2 batches"  # type: ignore[union-attr]
    assert report.after.accuracy.mean > 0.95  # type: ignore[union-attr]
    assert "not finite" in report.to_table()


def test_a_single_value_has_no_variance() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    with pytest.raises(bnaudit.RefusedError, match="a single value a channel"):
        bnaudit.recalibrate(net, data=torch.randn(1, 3), write=True, force=True)


def test_never_worse_without_saying_so() -> None:
    """Rows of one kind are other statistics than the network was good with."""
    net, x = two(), rows(400)
    y = labels(net, x)
    good = calibrated(net, x)
    bright = x.mean((1, 2, 3)) > 1.4
    odd, its = x[bright], y[bright]
    report = bnaudit.recalibrate(good, data=odd, labels=its)
    assert cases(report) == {"worse"}
    assert "WORSE" not in report.to_table()
    assert "REFUSED" in report.to_table()
    forced = bnaudit.recalibrate(good, data=odd, labels=its, force=True)
    assert "WORSE: deployed loss" in forced.to_table()
    single = bnaudit.recalibrate(good, data=x[:1], labels=y[:1])  # one batch has no interval
    assert cases(single) == {"worse"}


def test_a_healthy_network_stays_as_it_is() -> None:
    net, x = two(), rows(400)
    y = labels(net, x)
    good = calibrated(net, x[:200])
    report = bnaudit.recalibrate(good, data=x[200:], labels=y[200:])
    before, change = report.before.loss, report.change
    assert isinstance(before, Estimate)
    assert isinstance(change, Estimate)
    assert isinstance(before.upper, float)
    assert abs(change.mean) < before.upper - before.mean
    assert cases(report) == set()


def test_a_file_that_runs_in_training_mode_uses_none(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(two().train()), str(path))
    report = bnaudit.recalibrate(path, data={"x": rows()})
    assert cases(report) >= {"not-used"}


def test_no_batchnorm() -> None:
    folded = "fixtures/digits_resnet/folded.onnx"
    with pytest.raises(NoBatchNormError, match="there is no BatchNorm in it: folded") as error:
        bnaudit.recalibrate(folded, data="fixtures/digits_resnet/batch.npz")
    assert error.value.exit_code == 3
    assert "optimize=False" in str(error.value.hint)
    with pytest.raises(NoBatchNormError, match="no BatchNorm"):
        bnaudit.recalibrate(nn.Linear(3, 2), data=torch.randn(8, 3))


def test_layers_without_statistics_of_their_own() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(RunError, match="it keeps no running statistics"):
        bnaudit.recalibrate(net, data=torch.randn(8, 3))


def test_options_that_mean_nothing() -> None:
    net, x = two(), rows()

    def failing() -> Iterator[tuple[Tensor]]:
        yield (x,)
        raise OSError("gone")

    with pytest.raises(
        UsageError, match="recalibrate has no option 'lable', did you mean 'labels'"
    ):
        bnaudit.recalibrate(net, data=x, lable=x)
    with pytest.raises(UsageError, match="matches none of the 2 executed layers"):
        bnaudit.recalibrate(net, data=x, layers="nosuch.*")
    with pytest.raises(UsageError, match="way is 'both'"):
        bnaudit.recalibrate(net, data=x, way="both")
    with pytest.raises(UsageError, match="write=True is for live modules"):
        bnaudit.recalibrate("net.pt", data=x, write=True)
    with pytest.raises(UsageError, match="a live module is no file"):
        bnaudit.recalibrate(net, data=x, output="net.pt")
    with pytest.raises(DataError, match="the iterable failed after 1 batches"):
        bnaudit.recalibrate(net, data=failing())


def test_an_iterable_is_read_once_and_entirely() -> None:
    """Nine batches of uneven size, from a generator that is empty afterwards."""
    net, x = two(), rows()
    given = iter([(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split(6)])
    report = bnaudit.recalibrate(net, data=given)
    assert (report.data.batches, report.layers[0].values) == (9, 53 * 49)
    mean = reference(net, x)["bn1"][0]
    np.testing.assert_allclose(report.layers[0].running_mean, mean, atol=1e-5)  # type: ignore[arg-type]


def test_the_class_is_the_factory_of_the_other_tests() -> None:
    assert isinstance(two(), Two)
