"""Files of torch.export: trusted or not, static or not, nested or not, and every way they can be odd."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import DataError, InputError, RunError, UsageError
from bnaudit.load import Loading, load
from bnaudit.load.exported import load_exported
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped, Spread
from tests import nets
from tests.load.files import export, rewritten, zip_of

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.report import Report

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
FREE: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}


def reductions(report: Report) -> dict[str, float]:
    found: dict[str, float] = {}
    for layer in report.layers:
        assert isinstance(layer.first_order, FirstOrder)
        assert isinstance(layer.first_order.measured, Spread)
        found[layer.label] = layer.first_order.measured.median
    return found


class Nested(nn.Module):
    """Dict, list, constant and keyword-only arguments; dict and tuple outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, batch: dict[str, Any], k: int, *, mask: Tensor) -> dict[str, Any]:
        y = self.bn(batch["image"] + batch["more"][0] * 2) * k * mask
        return {"logits": y, "both": (y, y * 2)}


class Norms(nn.Module):
    """Layers with and without parameters, beside InstanceNorm and a functional call."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)
        self.own = nn.InstanceNorm2d(4, affine=True)
        self.tracked = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.bare = nn.BatchNorm2d(4, affine=False, track_running_stats=False)
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.full((4,), 0.5))
        self.register_buffer("var", torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.bare(self.tracked(self.own(self.bn(x))))
        return nn.functional.batch_norm(x, self.mean, self.var)


class Choice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.BatchNorm1d(4)
        self.b = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        chosen: Tensor = torch.cond(x.sum() > 0, self.a.forward, self.b.forward, (x,))
        return chosen


class OfDtype(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x.to(torch.float32)) * torch.arange(4, dtype=torch.float32, device=x.device)


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    return export(net, tmp_path_factory.mktemp("pt2") / "m.pt2", X[:6], **FREE)


def test_without_trust_it_is_refused_unread(tmp_path: Path) -> None:
    made = tmp_path / "made"
    content = zip_of(m__archive_format=b"pt2", m__data__sample_inputs__model=b"")
    path = tmp_path / "m.pt2"
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/sample_inputs/model.pt", pickle.dumps(Payload(str(made))))
    for call in (load, load_exported, bnaudit.audit):
        with pytest.raises(InputError, match="can run code out of it") as caught:
            call(path)
        assert "--trust" in str(caught.value.hint)
        assert caught.value.exit_code == 2
    assert not made.exists()


@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("cls", [nets.PreActivation, nets.InPlace, nets.Shared])
def test_the_modules_own_numbers(
    tmp_path: Path, cls: type[nn.Module], mode: str, training: bool, decompose: bool
) -> None:
    x = nets.inputs_for(cls).double()
    net = nets.make(cls).double()
    live = bnaudit.audit(net, data=x, mode=mode, batches=2, batch_size=8)
    path = export(net.train(training), tmp_path / "m.pt2", x[:4], decompose=decompose, **FREE)
    report = bnaudit.audit(path, trust=True, data=x, mode=mode, batches=2, batch_size=8)
    assert reductions(report) == pytest.approx(reductions(live), rel=1e-9)
    assert report.model.format == "exported"
    assert report.model.defined == live.model.defined
    stored = {f.rule for f in report.findings if f.severity > Severity.INFO and f.rule < "BN1"}
    assert stored == ({"BN004"} if training else set())


@pytest.mark.parametrize("decompose", [False, True])
def test_names_where_nothing_but_the_graph_tells_them(tmp_path: Path, decompose: bool) -> None:
    x = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    net = Norms().eval()
    live = bnaudit.audit(net, data=x)
    path = export(net, tmp_path / "m.pt2", x[:2], decompose=decompose, **FREE)
    report = bnaudit.audit(path, trust=True, data=x)
    assert list(reductions(report)) == ["bn", "bare", "Norms(mean)"]
    assert reductions(report) == pytest.approx(reductions(live), rel=1e-5)
    assert report.model.defined == ("bn", "bare", "Norms(mean)")
    assert report.model.not_executed == ()
    assert report.model.instance_norms == live.model.instance_norms == 2
    assert load_exported(path, trust=True).batchnorms[0].origin.endswith("'bn', BatchNorm2d)")


def test_the_example_inputs_are_the_default_batch(plain: Path) -> None:
    report = bnaudit.audit(plain, trust=True)
    assert report.run is not None
    assert (report.run.data.source, report.run.data.batch_size) == ("example", 6)
    assert reductions(report) == reductions(bnaudit.audit(plain, trust=True, data=X[:6]))
    channels = report.layers[0].statistics
    assert not isinstance(channels, Skipped)
    assert isinstance(channels.mean_drift, Skipped)
    assert "example inputs" in channels.mean_drift.reason


@pytest.mark.parametrize(
    "options", [{"batches": 2}, {"batch_size": 9}, {"input_shapes": {"": (9, 4)}}]
)
def test_other_sizes_are_drawn(plain: Path, options: dict[str, Any]) -> None:
    report = bnaudit.audit(plain, trust=True, **options)
    assert report.run is not None
    assert report.run.data.source == "synthetic"


def test_a_static_batch_is_kept(tmp_path: Path) -> None:
    path = export(nn.Sequential(nn.BatchNorm1d(4)).eval(), tmp_path / "m.pt2", X[:6])
    loaded = load_exported(path, trust=True)
    assert loaded.static_batch == 6
    assert [(s.name, s.shape, s.dtype) for s in loaded.inputs] == [("input", (6, 4), "float32")]
    report = bnaudit.audit(path, trust=True, data=X)
    assert report.run is not None
    assert (report.run.data.batches, report.run.data.batch_size) == (4, 6)
    with pytest.raises(UsageError, match="runs at batch size 6 only, not 8"):
        bnaudit.audit(path, trust=True, data=X, batch_size=8)
    drawn = bnaudit.audit(path, trust=True, batches=2).run
    assert drawn is not None
    assert (drawn.data.source, drawn.data.batch_size) == ("synthetic", 6)


def test_a_bounded_batch_says_its_bound(tmp_path: Path) -> None:
    dim = torch.export.Dim("batch", min=3, max=7)
    net = nn.Sequential(nn.BatchNorm1d(4)).eval()
    path = export(net, tmp_path / "m.pt2", X[:6], dynamic_shapes=({0: dim},))
    with pytest.raises(RunError, match=r"Guard failed: input\.size\(\)\[0\] <= 7"):
        bnaudit.audit(path, trust=True, data=X, batch_size=9)
    assert len(bnaudit.audit(path, trust=True, data=X, batch_size=5).layers) == 1


def test_data_that_does_not_fit_is_told_before_the_run(plain: Path) -> None:
    with pytest.raises(DataError, match="dimension 1 is 3"):
        bnaudit.audit(plain, trust=True, data=X[:, :3])


@pytest.mark.parametrize("decompose", [False, True])
def test_nested_arguments_are_inputs_by_name(tmp_path: Path, decompose: bool) -> None:
    batch = {"image": X, "more": [X.flip(0)]}
    mask = torch.ones(4)
    options: dict[str, Any] = {"decompose": decompose}
    net = Nested().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (batch, 3), {"mask": mask})
        torch.export.save(program.run_decompositions() if decompose else program, tmp_path / "m")
    assert options
    loaded = load_exported(tmp_path / "m", trust=True)
    assert [s.name for s in loaded.inputs] == ["batch_image", "batch_more_0", "mask"]
    report = bnaudit.audit(tmp_path / "m", trust=True)

    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            return self.net({"image": x, "more": [x.flip(0)]}, 3, mask=mask)

    live = bnaudit.audit(Direct(), data=X, batch_size=24)
    assert list(reductions(report).values()) == pytest.approx(list(reductions(live).values()))
    fixed = bnaudit.audit(tmp_path / "m", trust=True, inputs={"k": 3})
    assert fixed.run is not None
    assert fixed.run.inputs == {"k": 3}
    with pytest.raises(UsageError, match="takes 3, as exported"):
        bnaudit.audit(tmp_path / "m", trust=True, inputs={"k": 4})


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: Tensor, k: int) -> Tensor:
        y: Tensor = self.bn(x) * k
        return y


def test_a_free_size_is_an_argument(tmp_path: Path) -> None:
    free = (FREE["dynamic_shapes"][0], torch.export.Dim.DYNAMIC)
    path = export(Sized().eval(), tmp_path / "m.pt2", X[:6], 3, dynamic_shapes=free)

    def value(**inputs: int) -> float:
        report = bnaudit.audit(path, trust=True, inputs=inputs, seed=1)
        assert report.run is not None
        assert isinstance(report.run.loss.value, Spread)
        return report.run.loss.value.median

    assert value() == value(k=3) != value(k=5)
    with pytest.raises(UsageError, match="takes int"):
        bnaudit.audit(path, trust=True, inputs={"k": 2.5})


def test_both_branches_of_a_condition_are_defined_and_one_is_run(tmp_path: Path) -> None:
    path = export(Choice().eval(), tmp_path / "m.pt2", X)
    report = bnaudit.audit(path, trust=True, data=X.abs())
    assert report.model.defined == ("a", "b")
    assert list(reductions(report)) == ["a"]
    assert report.model.not_executed == ("b",)
    assert list(reductions(bnaudit.audit(path, trust=True, data=-X.abs()))) == ["b"]


def test_dtypes_in_the_graph_follow_the_run(tmp_path: Path) -> None:
    net = OfDtype().eval()
    path = export(net, tmp_path / "m.pt2", X, **FREE)
    report = bnaudit.audit(path, trust=True, data=X, dtype="float64", verify_gradients=-1)
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)
    assert isinstance(order.residual, float)
    assert order.residual < 1e-12
    half = export(net.half(), tmp_path / "half.pt2", X.half(), **FREE)
    assert len(bnaudit.audit(half, trust=True, data=X).layers) == 1


def test_no_batchnorm_left_is_explained(tmp_path: Path) -> None:
    path = export(nn.Sequential(nn.Linear(4, 2)), tmp_path / "m.pt2", X)
    report = bnaudit.audit(path, trust=True)
    assert report.exit_code == 3
    assert "no normalisation among its operators" in report.findings[0].message
    assert "torch.export" in report.findings[0].fix


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load(path, Loading(trust=True))
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_several_programs_are_listed_and_a_single_one_is_found(tmp_path: Path, plain: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(plain)
        package = import_module("torch.export.pt2_archive._package").package_pt2
        package(tmp_path / "two.pt2", exported_programs={"a": program, "b": program})
        package(tmp_path / "one.pt2", exported_programs={"a": program})
    assert "holds 2 programs (a, b)" in refused(tmp_path / "two.pt2").message
    assert reductions(bnaudit.audit(tmp_path / "one.pt2", trust=True)) == reductions(
        bnaudit.audit(plain, trust=True)
    )


def test_compiled_packages_are_refused_with_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(zip_of(m__data__aotinductor__model__a=b"\x7fELF", m__archive_format=b"pt2"))
    assert "AOTInductor package: compiled machine code" in refused(path).message


@pytest.mark.parametrize("change", [b"not json", b"{}", b"[]"])
def test_a_damaged_program_is_one_line(tmp_path: Path, plain: Path, change: bytes) -> None:
    def broken(name: str, content: bytes) -> bytes:
        return change if name.endswith("models/model.json") else content

    assert "cannot be loaded" in refused(rewritten(plain, tmp_path / "m.pt2", broken)).message


def test_a_newer_format_says_which_pytorch(tmp_path: Path, plain: Path) -> None:
    def newer(name: str, content: bytes) -> bytes:
        return b"99" if name.endswith("archive_version") else content

    assert "PyTorch that wrote them" in str(
        refused(rewritten(plain, tmp_path / "m.pt2", newer)).hint
    )


def test_a_weight_with_a_wrong_bit_is_damage(tmp_path: Path, plain: Path) -> None:
    content = bytearray(plain.read_bytes())
    program = torch.export.load(plain)
    weight = program.state_dict["0.weight"].detach().numpy().tobytes()
    content[content.find(weight) + 3] ^= 0x40
    (tmp_path / "m.pt2").write_bytes(content)
    assert "the checksum of" in refused(tmp_path / "m.pt2").message


def test_a_cut_off_file_is_damage(tmp_path: Path, plain: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(plain.read_bytes()[:-300])
    assert "damaged or cut-off" in refused(tmp_path / "m.pt2").message


def test_loading_says_and_writes_nothing(
    tmp_path: Path, plain: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"  # torch.export complains of any extension but its own
    path.write_bytes(plain.read_bytes())
    bnaudit.audit(path, trust=True)
    refused(rewritten(plain, tmp_path / "broken", lambda n, c: c if "models" not in n else b"{"))
    assert capfd.readouterr() == ("", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "model.onnx"]
