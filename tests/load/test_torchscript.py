"""TorchScript files: every way of writing one loads or is explained."""

from __future__ import annotations

import random
import warnings
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import InputError, RunError
from bnaudit.load.torchscript import load_torchscript
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Spread
from tests import nets
from tests.load.files import MLP, rewritten, script, trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.report import Report

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4)


class Twisted(Small):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.bn(self.fc(x)))


class Color(Enum):
    RED = 1


class WithEnum(Small):
    def forward(self, x: Tensor, color: Color) -> Tensor:
        return self.bn(x) if color == Color.RED else x


class Named(NamedTuple):
    first: Tensor
    second: Tensor


class Outputs(Small):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind: Final[str] = kind

    def forward(self, x: Tensor) -> Any:
        y = self.bn(self.fc(x))
        if self.kind == "dict":
            return {"logits": y, "more": y * 2}
        if self.kind == "tuple":
            return (y, [y * 2])
        if self.kind == "named":
            return Named(y, y * 2)
        return [y]


class Forking(Small):
    """Runs its layers on other threads of the interpreter."""

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(self.bn, x)
        y = torch.jit.fork(self.fc, x)
        return torch.jit.wait(future) + torch.jit.wait(y)


class OnDevice(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x) + torch.arange(4, device=x.device)


class WithOptional(Small):
    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        y = self.bn(x) * scale
        return y if mask is None else y * mask


class WithoutForward(Small):
    @torch.jit.export
    def score(self, x: Tensor) -> Tensor:
        return self.bn(x)


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, training=True)


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_torchscript(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.hint is not None
    return caught.value


def optimized(net: nn.Module, path: Path, how: Callable[..., torch.jit.ScriptModule]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(how(torch.jit.script(net.eval())), str(path))
    return path


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cls", [nets.PreActivation, nets.InPlace, nets.Shared])
def test_scripted_and_traced_in_either_mode_give_the_modules_own_numbers(
    tmp_path: Path, cls: type[nn.Module], training: bool
) -> None:
    x = nets.inputs_for(cls)
    live = bnaudit.audit(nets.make(cls), data=x)
    net = nets.make(cls).train(training)
    scripted = script(net, tmp_path / "scripted.pt")
    traced = trace(net, x, tmp_path / "traced.pt")
    for path in (scripted, traced):
        report = bnaudit.audit(path, data=x)
        assert [layer.label for layer in report.layers] == [layer.label for layer in live.layers]
        for got, wanted in zip(report.layers, live.layers, strict=True):
            assert got.first_order.measured.median == pytest.approx(  # type: ignore[union-attr]
                wanted.first_order.measured.median,  # type: ignore[union-attr]
                rel=1e-4,
            )
        # What is traced in training mode is told of a scripted module too: the flag is in the file.
        stored = {f.rule for f in report.findings if f.severity > Severity.INFO and f.rule < "BN1"}
        assert stored == ({"BN004"} if training else set())


def test_the_signature_has_names_and_no_shapes() -> None:
    loaded = load_torchscript(MLP / "scripted.pt")
    assert [(s.name, s.shape, s.dtype) for s in loaded.inputs] == [("x", None, None)]
    assert [(d.name, d.channels) for d in loaded.batchnorms] == [
        ("bn1", 32),
        ("bn2", 32),
        ("bn3", 16),
    ]
    assert loaded.format == "torchscript"
    assert not loaded.module.training


def test_arguments_that_may_be_left_out_are(tmp_path: Path) -> None:
    path = script(WithOptional().eval(), tmp_path / "m.pt")
    assert [s.name for s in load_torchscript(path).inputs] == ["x"]
    assert bnaudit.audit(path, data=torch.randn(32, 4)).exit_code == 0


def test_a_frozen_file_keeps_what_freezing_could_not_fold(tmp_path: Path) -> None:
    path = optimized(nets.make(nets.PreActivation), tmp_path / "m.pt", torch.jit.freeze)
    report = bnaudit.audit(path, data=nets.inputs_for(nets.PreActivation))
    assert [layer.label for layer in report.layers] == ["batch_norm_1", "batch_norm_2"]
    live = bnaudit.audit(nets.make(nets.PreActivation), data=nets.inputs_for(nets.PreActivation))
    for got, wanted in zip(report.layers, live.layers, strict=True):
        assert got.first_order.measured.median == pytest.approx(  # type: ignore[union-attr]
            wanted.first_order.measured.median,  # type: ignore[union-attr]
            rel=1e-4,
        )


def test_a_frozen_file_with_everything_folded_has_nothing_to_audit(tmp_path: Path) -> None:
    path = optimized(nets.make(nets.InPlace), tmp_path / "m.pt", torch.jit.freeze)
    report = bnaudit.audit(path, data=nets.inputs_for(nets.InPlace))
    assert report.exit_code == 3
    assert [f.rule for f in report.findings] == ["BN001"]
    assert "torch.jit.freeze" in report.findings[0].message + report.findings[0].fix


@pytest.mark.parametrize("cls", [nets.InPlace, nets.PreActivation])
def test_an_optimized_file_is_explained(tmp_path: Path, cls: type[nn.Module]) -> None:
    how = torch.jit.optimize_for_inference
    error = refused(optimized(nets.make(cls), tmp_path / "m.pt", how))
    assert "torch.jit.optimize_for_inference" in error.message
    assert "before optimising it" in str(error.hint)


def test_a_missing_operator_is_named(tmp_path: Path) -> None:
    whole = script(Twisted().eval(), tmp_path / "whole.pt")

    def change(name: str, content: bytes) -> bytes:
        return (
            content.replace(b"torch.tanh(", b"ops.myops.twist(")
            if name.endswith(".py")
            else content
        )

    error = refused(rewritten(whole, tmp_path / "m.pt", change))
    assert "needs the operator myops::twist, which is not registered" in error.message


@pytest.mark.parametrize(
    ("net", "fact"),
    [
        (
            WithEnum(),
            "the input 'color' is of type tests.load.test_torchscript.Color, which can be given neither",
        ),
        (WithoutForward(), "has no forward method"),
    ],
)
def test_modules_that_take_other_things_are_refused(
    tmp_path: Path, net: nn.Module, fact: str
) -> None:
    assert fact in refused(script(net.eval(), tmp_path / "m.pt")).message


@pytest.mark.parametrize("shape", [(8, 29), (8, 30, 1), (30,), (8,)])
def test_a_wrong_shape_is_told_with_the_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError) as caught:
        bnaudit.audit(MLP / "scripted.pt", input_shapes={"": shape}, batches=1)
    shown = "x".join(map(str, shape))
    assert f"cannot be run on inputs of shape {shown}: " in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 4


def test_functional_calls_are_found_in_the_graph(tmp_path: Path) -> None:
    path = script(Functional(), tmp_path / "m.pt")
    assert [d.name for d in load_torchscript(path).batchnorms] == ["batch_norm_1"]
    report = bnaudit.audit(path, data=torch.randn(32, 4))
    assert [layer.label for layer in report.layers] == ["batch_norm_1"]
    assert report.model.not_executed == ()


def test_a_weight_with_a_wrong_bit_is_damage(tmp_path: Path) -> None:
    """torch.jit.load takes it without a word."""
    content = bytearray((MLP / "scripted.pt").read_bytes())
    weights = load_torchscript(MLP / "scripted.pt").module.state_dict()["fc1.weight"]
    place = content.find(weights.numpy().tobytes()[:64])
    assert place > 0
    content[place + 3] ^= 0x40
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    torch.jit.load(str(path))
    assert "damaged: the checksum of scripted/data/" in refused(path).message


def test_a_file_that_lost_its_end_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes((MLP / "scripted.pt").read_bytes()[:-100])
    assert "damaged or cut-off" in refused(path).message


def test_damaged_code_is_one_error(tmp_path: Path) -> None:
    """Checksums in order, contents not: as a faulty converter would write it."""
    rng = random.Random(0)  # noqa: S311
    path = tmp_path / "m.pt"

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith((".py", ".pkl")) or not content:
            return content
        changed = bytearray(content)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)

    messages: list[str] = []
    for _ in range(40):
        rewritten(MLP / "scripted.pt", path, change)
        try:
            load_torchscript(path)
        except InputError as error:
            messages.append(error.message)
    assert len(messages) > 20
    assert max(map(len, messages)) < 400


def reductions(report: Report) -> list[float]:
    found: list[float] = []
    for layer in report.layers:
        assert isinstance(layer.first_order, FirstOrder)
        assert isinstance(layer.first_order.measured, Spread)
        found.append(layer.first_order.measured.median)
    return found


@pytest.mark.parametrize("flatbuffer", [False, True])
def test_files_for_mobile_devices(tmp_path: Path, flatbuffer: bool) -> None:
    net = nets.make(nets.InPlace)
    x = nets.inputs_for(nets.InPlace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net)
        path = str(tmp_path / "m.ptl")
        scripted._save_for_lite_interpreter(path, _use_flatbuffer=flatbuffer)
    report = bnaudit.audit(path, data=x)
    live = bnaudit.audit(net, data=x)
    assert [layer.label for layer in report.layers] == [layer.label for layer in live.layers]
    assert reductions(report) == pytest.approx(reductions(live), rel=1e-4)


def test_extra_files_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    extra = {"labels.json": "[]", "archive_format": "x", "models/a.json": "{}", "data.pkl": "x"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Twisted().eval()), str(path), _extra_files=extra)
    assert len(bnaudit.audit(path, data=X).layers) == 1


@pytest.mark.parametrize("kind", ["dict", "tuple", "named"])
def test_outputs_of_every_shape(tmp_path: Path, kind: str) -> None:
    net = Outputs(kind).eval()
    path = trace_any(net, tmp_path / "m.pt")
    assert reductions(bnaudit.audit(path, data=X)) == pytest.approx(
        reductions(bnaudit.audit(net, data=X)), rel=1e-5
    )


def trace_any(net: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, X, strict=False, check_trace=False), str(path))
    return path


def test_layers_on_other_threads_are_caught(tmp_path: Path) -> None:
    net = Forking().eval()
    report = bnaudit.audit(script(net, tmp_path / "m.pt"), data=X)
    assert [layer.label for layer in report.layers] == ["bn"]
    assert reductions(report) == pytest.approx(reductions(bnaudit.audit(net, data=X)), rel=1e-5)


@pytest.mark.parametrize(("dtype", "run"), [("half", "float32"), ("double", "float64")])
def test_weights_of_another_precision(tmp_path: Path, dtype: str, run: str) -> None:
    net = getattr(Twisted().eval(), dtype)()
    report = bnaudit.audit(script(net, tmp_path / "m.pt"), data=X)
    assert report.run is not None
    assert report.run.dtype == run
    assert len(reductions(report)) == 1


def test_a_file_traced_on_a_gpu_runs_where_there_is_none(tmp_path: Path) -> None:
    """Tracing writes the device of the tensors that the code makes into the code."""
    net = OnDevice().eval()
    on_cpu = trace_any(net, tmp_path / "cpu.pt")
    changed: list[str] = []

    def to_gpu(name: str, content: bytes) -> bytes:
        if name.endswith(".py") and b'torch.device("cpu")' in content:
            changed.append(name)
        return content.replace(b'torch.device("cpu")', b'torch.device("cuda:0")')

    path = rewritten(on_cpu, tmp_path / "cuda.pt", to_gpu)
    assert changed
    report = bnaudit.audit(path, data=X, verify_gradients=-1)
    assert reductions(report) == reductions(bnaudit.audit(on_cpu, data=X))


def test_a_frozen_file_without_folding_keeps_its_layers(tmp_path: Path) -> None:
    net = nets.make(nets.InPlace)
    x = nets.inputs_for(nets.InPlace)

    def freeze(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
        return torch.jit.freeze(module, optimize_numerics=False)

    path = optimized(net, tmp_path / "m.pt", freeze)
    report = bnaudit.audit(path, data=x)
    assert reductions(report) == pytest.approx(reductions(bnaudit.audit(net, data=x)), rel=1e-4)
    assert any("frozen by torch.jit.freeze" in note for note in report.model.notes)
    exact = bnaudit.audit(path, data=x, dtype="float64")
    wanted = bnaudit.audit(net, data=x, dtype="float64")
    assert reductions(exact) == pytest.approx(reductions(wanted), rel=1e-9)


@pytest.mark.parametrize(("dtype", "run"), [("half", "float32"), ("double", "float64")])
def test_a_frozen_file_of_another_precision(tmp_path: Path, dtype: str, run: str) -> None:
    def freeze(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
        return torch.jit.freeze(module, optimize_numerics=False)

    path = optimized(getattr(Twisted(), dtype)(), tmp_path / "m.pt", freeze)
    report = bnaudit.audit(path, data=X)
    assert report.run is not None
    assert report.run.dtype == run
    assert len(reductions(report)) == 1


def test_an_unfrozen_file_without_batchnorm_is_not_called_frozen(tmp_path: Path) -> None:
    for net in (nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.ReLU())):
        report = bnaudit.audit(script(net.eval(), tmp_path / "m.pt"), data=X)
        assert report.exit_code == 3
        assert "it was frozen" not in report.findings[0].message
