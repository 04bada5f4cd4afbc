"""BatchNorm that is there in another form: it is named, and judged where its four vectors are stored."""

# mypy: disable-error-code="arg-type, operator, union-attr"
# Buffers have no types here: torch.jit.script would take their annotations for attributes of its own.

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnaudit
from bnaudit.errors import InputError
from bnaudit.inspection import inspect_file
from bnaudit.inspection.live import inspect_live
from bnaudit.load.live import load_live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.inspection import Inspection

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Textbook(nn.Module):
    """gamma, beta, moving_mean, moving_var of shape [1, C, 1, 1], in plain arithmetic."""

    names: tuple[str, ...] = ("gamma", "beta", "moving_mean", "moving_var")
    shape: tuple[int, ...] = (1, -1, 1, 1)

    def __init__(self, channels: int) -> None:
        super().__init__()
        given = [torch.rand(channels) + 0.5, *torch.randn(2, channels), torch.rand(channels) + 0.5]
        for name, values in zip(self.names, given, strict=True):
            self.register_buffer(name, values.reshape(self.shape))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.gamma / torch.sqrt(self.moving_var + 1e-3)
        return (x - self.moving_mean) * scale + self.beta


class Frozen(Textbook):
    """Detectors' FrozenBatchNorm2d: PyTorch's names, vectors, a*x + b."""

    names = ("weight", "bias", "running_mean", "running_var")
    shape = (-1,)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-3).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class Variance(Textbook):
    """Other people's names again."""

    names = ("scale", "shift", "mean", "variance")
    shape = (1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * (self.variance + 1e-3).rsqrt() * self.scale + self.shift


class Functional(Frozen):
    """A class of one's own whose statistics torch's batch_norm gets: nothing but PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False)


def net(own: type[Textbook]) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 8, 3), own(8), nn.ReLU(), nn.Conv2d(8, 8, 3), own(8)).eval()
    made[1].get_buffer(own.names[3]).view(-1)[2] = -0.25
    return made


def state(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def pickled(model: nn.Module, path: Path) -> None:
    torch.save(model, path)


def scripted(model: nn.Module, path: Path) -> None:
    torch.jit.script(model).save(str(path))


def traced(model: nn.Module, path: Path) -> None:
    torch.jit.trace(model, X).save(str(path))


def exported(model: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(model, (X,)), path)


def onnx(model: nn.Module, path: Path) -> None:
    torch.onnx.export(model, (X,), str(path), dynamo=True, optimize=False, verbose=False)


EVERY = [state, pickled, scripted, traced, exported, onnx]


def written(model: nn.Module, write: Callable[[nn.Module, Path], None], folder: Path) -> Path:
    path = folder / "x.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(model, path)
    return path


@pytest.mark.parametrize("own", [Textbook, Frozen, Variance])
@pytest.mark.parametrize("write", EVERY)
def test_stored_vectors_are_judged_in_every_format(
    tmp_path: Path, write: Callable[[nn.Module, Path], None], own: type[Textbook]
) -> None:
    model = net(own)
    report = bnaudit.inspect(written(model, write, tmp_path))
    assert [b.name for b in report.inspection.batchnorms] == ["1", "4"]
    for b in report.inspection.batchnorms:
        stored = [model.get_submodule(b.name).get_buffer(n).reshape(-1) for n in own.names]
        found = [b.gamma, b.beta, b.running_mean, b.running_var]
        assert found == [tuple(t.tolist()) for t in stored]
        assert b.training is None  # no batch_norm, no mode
    assert [(f.rule, f.layer) for f in report.findings if f.severity.label == "error"] == [
        ("BN007", "1")
    ]
    assert report.exit_code == 1
    assert report.inspection.absence is None or report.inspection.absence.case == "other-form"
    if write is not state:  # whose names do not tell what the class computes
        assert [n for n in report.inspection.notes if "put torch.nn.BatchNorm1d, 2d or 3d" in n]


@pytest.mark.parametrize("own", [Textbook, Frozen, Variance])
def test_a_live_network_of_such_layers_is_judged_and_nothing_measured(own: type[Textbook]) -> None:
    report = bnaudit.audit(net(own), data=X)
    assert report.exit_code == 3
    found = {f.rule: f for f in report.findings}
    assert set(found) >= {"BN001", "BN007"}
    assert own.__name__ in found["BN001"].message
    assert "torch.nn.BatchNorm" in found["BN001"].fix
    assert found["BN007"].layer == "1"


def test_what_the_remedy_says_brings_batchnorm_back() -> None:
    model = net(Textbook)
    model[1].get_buffer("moving_var").abs_()
    swapped = nn.Sequential(*model)
    for name in ("1", "4"):
        old, new = model.get_submodule(name), nn.BatchNorm2d(8, eps=1e-3)
        parts = ("weight", "bias", "running_mean", "running_var")
        new.load_state_dict(
            {p: old.get_buffer(n).reshape(-1) for p, n in zip(parts, Textbook.names, strict=True)},
            strict=False,
        )
        swapped[int(name)] = new
    assert torch.allclose(swapped.eval()(X), model(X), atol=1e-6)
    assert [layer.name for layer in bnaudit.audit(swapped, data=X).layers] == ["1", "4"]


@pytest.mark.parametrize("write", [scripted, traced, exported, onnx])
def test_a_class_of_ones_own_that_calls_batch_norm_is_plain_batchnorm(
    tmp_path: Path, write: Callable[[nn.Module, Path], None]
) -> None:
    found = inspect_file(written(net(Functional), write, tmp_path))
    assert [b.name for b in found.batchnorms] == ["1", "4"]
    assert [b.preceded_by for b in found.batchnorms] == ["Conv", "Conv"]
    assert found.absence is None


class PerIrrep(nn.Module):
    """Statistics of another length than the weight, as e3nn has them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(12)), nn.Parameter(torch.zeros(8))
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_var", torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        scalars = (x[:, :8] - self.running_mean) * scale[:8] + self.bias
        return torch.cat([scalars, (x[:, 8:].reshape(-1, 4, 3) * scale[8:, None]).flatten(1)], 1)


def live(model: nn.Module) -> Inspection:
    return inspect_live(load_live(model))


@pytest.mark.parametrize("write", [None, state, pickled, scripted, exported])
def test_statistics_that_cannot_be_paired_are_named(
    tmp_path: Path, write: Callable[[nn.Module, Path], None] | None
) -> None:
    model = nn.Sequential(nn.Linear(3, 20), PerIrrep()).eval()
    if write is None:
        found = live(model)
    elif write is exported:
        path = tmp_path / "x.pt2"
        torch.export.save(torch.export.export(model, (torch.randn(4, 3),)), path)
        found = inspect_file(path)
    else:
        found = inspect_file(written(model, write, tmp_path))
    assert found.batchnorms == ()
    assert found.absence is not None
    assert found.absence.case == "other-form"
    (clause,) = found.absence.evidence
    assert "1: a normalisation of its own form" in clause
    assert "running_mean [8]" in clause
    assert "running_var [12]" in clause


@pytest.mark.parametrize("write", [state, pickled])
@pytest.mark.parametrize("lazy", [nn.LazyBatchNorm1d, nn.LazyBatchNorm2d])
def test_a_lazy_layer_that_was_never_run_is_refused(
    tmp_path: Path, write: Callable[[nn.Module, Path], None], lazy: type[nn.Module]
) -> None:
    path = written(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), lazy()), write, tmp_path)
    with pytest.raises(InputError, match=r"x\.pt2: 2: a LazyBatchNorm that was never run"):
        bnaudit.inspect(path)


def test_other_lazy_layers_do_not_matter(tmp_path: Path) -> None:
    path = written(nn.Sequential(nn.LazyLinear(4), nn.BatchNorm1d(4)), state, tmp_path)
    assert [b.name for b in inspect_file(path).batchnorms] == ["1"]


def without_statistics(affine: bool) -> nn.Module:
    norm = nn.BatchNorm2d(8, affine=affine, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU()).eval()


def adapted() -> nn.Module:
    """Test-time adaptation: the statistics of a trained layer are taken away."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    norm: Any = model[1]
    norm.running_mean = norm.running_var = None
    return model


@pytest.mark.parametrize(
    "make", [lambda: without_statistics(True), lambda: without_statistics(False), adapted]
)
@pytest.mark.parametrize("write", [None, pickled, scripted, traced, exported, onnx])
def test_a_layer_without_statistics_depends_on_its_batch_in_every_format(
    tmp_path: Path,
    write: Callable[[nn.Module, Path], None] | None,
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = make()
    if make is adapted and write is scripted:
        pytest.skip("torch.jit.script refuses buffers that were set to None")
    if write is None:
        findings = bnaudit.audit(model, data=X).findings
    else:
        report = bnaudit.inspect(written(model, write, tmp_path))
        findings = report.findings
        assert [b.training for b in report.inspection.batchnorms] == [True]
    assert [f.layer for f in findings if f.rule == "BN004"]


def test_a_state_dict_without_statistics_may_be_such_a_layer(tmp_path: Path) -> None:
    found = inspect_file(written(without_statistics(True), state, tmp_path))
    assert found.absence is not None
    assert (
        "track_running_stats=False, whose answers depend on the batch" in found.absence.evidence[0]
    )
    # state_dict() is what was saved: it is no remedy.
    assert "state_dict" not in found.absence.fix
    assert "torch.save(net, path)" in found.absence.fix
    # The remedy works: the whole module tells.
    told = bnaudit.inspect(written(without_statistics(True), pickled, tmp_path))
    assert [f.rule for f in told.findings if "track_running_stats" in f.message] == ["BN004"]


def test_names_of_a_batchnorm_without_buffers_have_both_remedies(tmp_path: Path) -> None:
    torch.save({"bn1.weight": torch.ones(4), "bn1.bias": torch.ones(4)}, tmp_path / "x.pt")
    found = inspect_file(tmp_path / "x.pt").absence
    assert found is not None
    assert "torch.save(net.state_dict(), path)" in found.fix
    assert "train it with True" in found.fix


class Merged(nn.Module):
    """A block for deployment, under the names of several papers' code."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stage = nn.Module()
        self.stage.add_module(name, nn.Conv2d(3, 4, 3))
        self.name = name

    def forward(self, x: Tensor) -> Any:
        return torch.relu(getattr(self.stage, self.name)(x))


@pytest.mark.parametrize("name", ["rbr_reparam", "reparam_conv", "lkb_reparam"])
@pytest.mark.parametrize("write", [state, pickled, traced, exported, onnx])
def test_a_reparameterised_network_is_told_by_its_names(
    tmp_path: Path, write: Callable[[nn.Module, Path], None], name: str
) -> None:
    found = inspect_file(written(Merged(name).eval(), write, tmp_path))
    assert found.absence is not None
    assert found.absence.case == "folded"
    assert f"stage.{name}: a re-parameterised network" in found.absence.evidence[0]
    assert "export" not in found.absence.fix


@pytest.mark.parametrize("name", ["param_conv", "preparation", "reparameterized"])
def test_other_names_are_not_taken_for_one(tmp_path: Path, name: str) -> None:
    found = inspect_file(written(Merged(name).eval(), state, tmp_path))
    assert found.absence is not None
    assert (found.absence.case == "folded") is (name == "reparameterized")


def test_numbers_that_normalise_the_data_are_no_layer(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"mean": torch.rand(3), "var": torch.rand(3), "w.weight": torch.rand(3, 3)}, path)
    assert inspect_file(path).batchnorms == ()
