"""Scale invariance and the way from a BatchNorm back to its weight, against plain autograd."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fixtures.nets import TabularMlp
from torch import Tensor, nn
from torch.nn import functional as F

import bnaudit
from bnaudit.errors import DataError, InputError
from bnaudit.initialisation import compare
from bnaudit.initialisation.invariance import FACTORS, TOLERANCE
from bnaudit.options import AuditOptions
from bnaudit.progress import Silent
from bnaudit.records.initialisation import InitReport, InitRun, Rows, ScaleTest, Unfed, WeightReport
from bnaudit.records.values import Skipped
from bnaudit.records.weights import WeightSpace
from bnaudit.summary.gain import is_foldable
from tests.nets import PreActivation, Shared, inputs_for, make
from tests.reference import batch_norm

from . import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_order")


def report(start: Path, trained: Path, **options: Any) -> InitReport:
    return compare(start, trained, AuditOptions(**options), Silent())


def scripted(net: nn.Module, x: Tensor, tmp_path: Path) -> InitReport:
    """The network against itself, as a TorchScript file, with the label-free loss."""
    path = files.save_script(tmp_path / "net.pt", net)
    return report(path, path, data=x)


def by_name(found: InitReport) -> dict[str, WeightReport]:
    return {w.name: w for w in found.weights}


def scale_of(weight: WeightReport) -> ScaleTest:
    assert isinstance(weight.scale, ScaleTest), weight.scale
    return weight.scale


def _mlp_loss(p: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """TabularMlp from elementary operations."""
    for i in "123":
        x = x @ p[f"fc{i}.weight"].T + p[f"fc{i}.bias"]
        x = batch_norm(x, p[f"bn{i}.weight"], p[f"bn{i}.bias"], 1e-5).clamp(min=0)
    logits = x @ p["head.weight"].T + p["head.bias"]
    return (logits.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]).mean()


def test_against_elementary_operations() -> None:
    folder = files.FIXTURES / "tabular_mlp"
    found = report(folder / "state_dict.pt", folder / "model.onnx", data=str(folder / "batch.npz"))

    stored = np.load(folder / "batch.npz")
    x, labels = torch.tensor(stored["x"][:32]).double(), torch.tensor(stored["labels"][:32])
    p = {
        n: t.double().requires_grad_()
        for n, t in files.trained_state("tabular_mlp").items()
        if t.is_floating_point()
    }
    loss = _mlp_loss(p, x, labels)
    assert isinstance(found.run, InitRun)
    assert found.run.value == pytest.approx(float(loss.detach()), rel=1e-12)
    loss.backward()
    h = x
    for i in "123":
        test = scale_of(by_name(found)[f"fc{i}.weight"])
        w = p[f"fc{i}.weight"]
        for factor, change in ((c.factor, c.change) for c in test.changes):
            scaled = _mlp_loss({**p, f"fc{i}.weight": factor * w}, x, labels)
            expected = float((abs(scaled - loss) / loss).detach())
            assert change == pytest.approx(expected, rel=1e-6, abs=1e-13)
        gamma_grad = p[f"bn{i}.weight"].grad
        assert w.grad is not None
        assert gamma_grad is not None
        pre = h @ w.T + p[f"fc{i}.bias"]
        leak = 1e-5 / (pre.var(0, correction=0) + 1e-5)
        size = w.norm(dim=1) * w.grad.norm(dim=1)
        left = (w * w.grad).sum(1)
        right = leak * p[f"bn{i}.weight"] * gamma_grad
        assert float(((left - right).abs() / size).detach().max()) < 1e-13
        assert test.radial == pytest.approx(float((left.abs() / size).detach().max()), rel=1e-6)
        h = batch_norm(pre, p[f"bn{i}.weight"], p[f"bn{i}.bias"], 1e-5).clamp(min=0)


@pytest.mark.parametrize("net", ["digits_resnet", "tabular_mlp"])
def test_trained_networks_in_every_format(net: str, tmp_path: Path) -> None:
    folder = files.FIXTURES / net
    start = files.save_state(tmp_path / "start.pt", files.start_of(net).state_dict())
    kinds = ("scripted.pt", "traced.pt", "model.onnx", "static.onnx", "dynamo.onnx")
    found = [
        report(start, folder / k, data=str(folder / "batch.npz"), batch_size=16) for k in kinds
    ]
    for one in found:
        weights = by_name(one)
        assert weights.keys() == by_name(found[0]).keys()
        for name, weight in weights.items():
            other = by_name(found[0])[name]
            last = name in {"fc.weight", "head.weight"}
            assert (weight.followed, weight.followed_from) == ("no" if last else "yes", "run")
            assert weight.batchnorm == other.batchnorm
            assert weight.alignment == other.alignment
            assert isinstance(weight.rows, Rows)
            assert isinstance(other.rows, Rows)
            assert replace(weight.rows, axis_from="") == replace(other.rows, axis_from="")
            if last:
                assert weight.scale == Skipped("no BatchNorm follows")
                continue
            test, reference = scale_of(weight), scale_of(other)
            assert not test.broken
            assert test.residual == pytest.approx(0, abs=1e-13)
            assert test.radial == pytest.approx(reference.radial, rel=1e-6)
            assert test.largest_change == pytest.approx(reference.largest_change, rel=1e-6)
            # Without the leak term the identity would be broken: the test can fail.
            assert not isinstance(test.radial, Skipped)
            assert test.radial > 1e3 * TOLERANCE
            assert not isinstance(test.largest_change, Skipped)
            assert 0 < test.largest_change < 1e-2
            assert [entry.factor for entry in test.changes] == list(FACTORS)


def test_the_start_of_the_shipped_networks_is_recognised(tmp_path: Path) -> None:
    for net in ("digits_resnet", "tabular_mlp"):
        trained = files.FIXTURES / net / "state_dict.pt"
        own = files.save_state(tmp_path / "own.pt", files.start_of(net).state_dict())
        found = report(own, trained)
        assert not found.notes
        for weight in found.weights:
            assert isinstance(weight.rows, Rows)
            assert weight.rows.positive == 1
        torch.manual_seed(123)
        other = files.save_state(tmp_path / "other.pt", type(files.start_of(net))().state_dict())
        assert "is this the start of the same run?" in report(other, trained).notes[-1]


def test_a_skip_connection_is_not_before_a_batchnorm(tmp_path: Path) -> None:
    found = scripted(make(PreActivation), inputs_for(PreActivation), tmp_path)
    weights = by_name(found)
    assert weights["stem.weight"].followed == "no"
    elsewhere = Skipped("its output also goes where no BatchNorm stands")
    assert weights["stem.weight"].scale == elsewhere
    assert weights["conv1.weight"].followed == "no"
    assert isinstance(found.run, InitRun)
    reason = "fed by a sum of several computed tensors (a residual connection)"
    assert found.run.unfed == (Unfed("bn2", reason),)


def test_one_batchnorm_behind_two_weights(tmp_path: Path) -> None:
    weights = by_name(scripted(make(Shared), inputs_for(Shared), tmp_path))
    for name in ("a.weight", "b.weight"):
        assert weights[name].batchnorm == "bn"
        assert scale_of(weights[name]).residual == pytest.approx(0, abs=1e-14)


class Tied(nn.Module):
    """One weight before two BatchNorms, one also used bare."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 6)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm1d(6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(torch.tanh(self.a(torch.tanh(self.bn1(self.a(x))))))
        return F.linear(torch.tanh(self.bn3(self.b(x))), self.b.weight)


class Twice(nn.Module):
    """One weight before two BatchNorms, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.bn1, self.bn2 = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn1(self.a(x)))
        return self.fc(torch.tanh(self.bn2(self.a(x))))


def test_weights_used_more_than_once(tmp_path: Path) -> None:
    tied = by_name(scripted(make(Tied), inputs_for(Shared), tmp_path))
    bare = Skipped("it is also used where no BatchNorm follows")
    assert tied["a.weight"].scale == tied["b.weight"].scale == bare
    assert tied["a.weight"].followed == "no"
    twice = by_name(scripted(make(Twice), inputs_for(Shared), tmp_path))["a.weight"]
    assert twice.followed == "yes"
    assert scale_of(twice).residual == pytest.approx(0, abs=1e-14)
    assert float(str(scale_of(twice).largest_change)) < 1e-2


class Mixed(nn.Module):
    """Transposed, grouped and depthwise convolutions, Linear on sequences, no affine, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.bn1 = nn.BatchNorm2d(6)
        self.dw = nn.Conv2d(6, 6, 3, groups=6, bias=False)
        self.bn2 = nn.BatchNorm2d(6, affine=False)
        self.fc = nn.Linear(9, 7)
        self.bn3 = nn.BatchNorm1d(7)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn2(self.dw(torch.tanh(self.bn1(self.up(x))))))
        x = self.fc(x.flatten(2)).transpose(1, 2)
        return self.head(torch.tanh(self.bn3(x)).mean(2))


def test_every_kind_of_layer(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = by_name(scripted(make(Mixed), torch.randn(9, 4, 4, 4, generator=generator), tmp_path))
    expected = {
        "up.weight": ("bn1", 1, 2, 6),
        "dw.weight": ("bn2", 0, 1, 6),
        "fc.weight": ("bn3", 0, 1, 7),
    }
    for name, (bn, axis, groups, count) in expected.items():
        weight = weights[name]
        assert weight.batchnorm == bn
        assert isinstance(weight.rows, Rows)
        assert (weight.rows.axis, weight.rows.groups, weight.rows.count) == (axis, groups, count)
        assert scale_of(weight).residual == pytest.approx(0, abs=1e-14)
        assert float(str(scale_of(weight).radial)) > 1e-9


def test_the_file_and_the_parameters_stay_as_they_are(tmp_path: Path) -> None:
    path = files.save_script(tmp_path / "net.pt", make(Shared))
    before = path.read_bytes()
    first = report(path, path, data=inputs_for(Shared))
    assert report(path, path, data=inputs_for(Shared)) == first
    assert path.read_bytes() == before
    assert first.identical


def test_what_cannot_run_is_skipped_with_the_reason(tmp_path: Path) -> None:
    path = files.save_script(tmp_path / "net.pt", TabularMlp())
    found = report(path, path)
    assert isinstance(found.run, Skipped)
    assert "shape" in found.run.reason
    assert found.weights[0].scale == found.run
    assert found.weights[0].followed == "yes"
    assert found.weights[0].followed_from == "names"
    state = files.FIXTURES / "tabular_mlp" / "state_dict.pt"
    assert "no network to run" in str(report(path, state).run)
    one_row = report(path, path, data=torch.randn(1, 30))
    assert "m = 1" in str(one_row.weights[0].scale)
    two_rows = report(path, path, data=torch.randn(2, 30))
    assert "m = 2" in str(scale_of(two_rows.weights[0]).residual)
    assert not isinstance(scale_of(two_rows.weights[0]).largest_change, Skipped)


def test_data_that_was_given_has_to_fit(tmp_path: Path) -> None:
    path = files.save_script(tmp_path / "net.pt", TabularMlp())
    with pytest.raises(DataError):
        report(path, path, data=str(tmp_path / "none.npz"))


def test_a_folded_export_is_refused() -> None:
    folder = files.FIXTURES / "digits_resnet"
    for pair in (("state_dict.pt", "folded.onnx"), ("folded.onnx", "state_dict.pt")):
        with pytest.raises(InputError, match="folded them into the weights"):
            report(folder / pair[0], folder / pair[1])


def test_the_graph_serves_without_a_run() -> None:
    folder = files.FIXTURES / "digits_resnet"
    found = compare(
        folder / "state_dict.pt", folder / "model.onnx", AuditOptions(), Silent(), run=False
    )
    assert {w.followed_from for w in found.weights} == {"graph"}
    assert [w.followed for w in found.weights].count("yes") == 10
    swapped = compare(
        folder / "model.onnx", folder / "state_dict.pt", AuditOptions(), Silent(), run=False
    )
    assert {w.name: w.batchnorm for w in swapped.weights} == {
        w.name: w.batchnorm for w in found.weights
    }


class Crops(nn.Module):
    """Between convolution and BatchNorm: crops of positions, and what is none."""

    FED = ("chomp", "middle", "negative_pad")

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict(
            {n: nn.Conv1d(2, 3, 3, padding=2) for n in (*self.FED, "padded")}
        )
        self.norms = nn.ModuleDict({n: nn.BatchNorm1d(3) for n in (*self.FED, "padded")})
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        steps: dict[str, Callable[[Tensor], Tensor]] = {
            "chomp": lambda y: y[:, :, :-2],
            "middle": lambda y: y[..., 1:-1],
            "negative_pad": lambda y: F.pad(y, (-2, 0)),
            "padded": lambda y: F.pad(y, (1, 0)),
        }
        found = [
            torch.tanh(self.norms[n](step(self.convs[n](x)))).mean(2) for n, step in steps.items()
        ]
        out: Tensor = self.head(torch.cat(found, 1))
        return out


@pytest.mark.parametrize("how", ["trace", "export"])
def test_inspect_check_and_init_agree_on_what_a_crop_leaves(tmp_path: Path, how: str) -> None:
    """A crop leaves out positions; the bias is subtracted at those that stay. Zeros of a padding stay."""
    torch.manual_seed(0)
    net, x, path = Crops().eval(), torch.randn(16, 2, 9), tmp_path / "net.pt2"
    for norm in net.norms.values():
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "trace":
            torch.jit.trace(net, x).save(str(path))
        else:
            torch.export.save(torch.export.export(net, (x,)), path)
    fed = {f"norms.{name}" for name in Crops.FED}
    inspected = bnaudit.inspect(path).inspection.batchnorms
    assert {b.name for b in inspected if b.feeder} == fed
    assert {b.name for b in inspected if is_foldable(b)} == set()
    metrics = ("weight_space",)
    layers = bnaudit.audit(path, data=x, dtype="float64", metrics=metrics, trust=True).layers
    assert {w.name for w in layers if isinstance(w.weight_space, WeightSpace)} == fed
    if how == "export":  # init runs TorchScript and ONNX
        return
    found = report(path, path, data=x)
    weights = by_name(found)
    assert {w.batchnorm for w in weights.values() if w.followed == "yes"} == fed
    for name in Crops.FED:
        assert scale_of(weights[f"convs.{name}.weight"]).residual == pytest.approx(0, abs=1e-13)
    assert isinstance(found.run, InitRun)
    padded = Unfed("norms.padded", "fed by a padding, not by one Linear or convolution")
    assert found.run.unfed == (padded,)


class Sure(nn.Module):
    """Answers of 0 and 1 to the last digit: no gradient comes back through them."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.bn, self.out, self.end = (
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4), end
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.end(1e4 * self.out(torch.relu(self.bn(self.fc(x)))))


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.Sigmoid()])
def test_the_loss_is_taken_in_front_of_the_final_activation(end: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(16, 6)
    found, expected = (
        by_name(report(path, path, data=x))
        for path in (
            files.save_script(tmp_path / f"{i}.pt", Sure(e))
            for i, e in enumerate((end, nn.Identity()))
        )
    )
    one, other = scale_of(found["fc.weight"]), scale_of(expected["fc.weight"])
    assert [c.change for c in one.changes] == pytest.approx([c.change for c in other.changes])
    assert one.radial == pytest.approx(other.radial)
    told = report(tmp_path / "0.pt", tmp_path / "0.pt", data=x).run
    assert isinstance(told, InitRun)
    assert f"taken in front of the final {type(end).__name__}" in told.loss_why
