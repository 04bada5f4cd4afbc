"""TorchScript as text says what loading the file and asking its modules says."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bnaudit.errors import InputError
from bnaudit.inspection import inspect_file
from bnaudit.inspection.torchscript import inspect_torchscript
from bnaudit.load.torchscript import load_torchscript
from bnaudit.records.inspection import BatchNormStatics, Feeder, Inspection
from tests import nets as shared
from tests.load import files
from tests.unit.inspection import nets

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = torch.randn(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))

CASES: dict[str, tuple[type[nn.Module], torch.Tensor]] = {
    "deep": (nets.Deep, IMAGE),
    "twice": (nets.Twice, ROWS),
    "by_mode": (nets.ByMode, IMAGE),
    "classifier": (nets.Classifier, IMAGE),
    "in_place": (nets.InPlaceBefore, IMAGE),
    "functional": (nets.Functional, ROWS),
    "no_norm": (nets.NoNorm, IMAGE),
    "other": (nets.OtherNorms, IMAGE),
    **{
        cls.__name__: (cls, shared.inputs_for(cls))
        for cls in (shared.PreActivation, shared.InPlace, shared.Shared, shared.Plain)
    },
}


def net_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    cls, x = CASES[name]
    torch.manual_seed(1)
    return nets.train_a_little(cls(), x), x


def saved(name: str, how: str, path: Path) -> tuple[Path, nn.Module]:
    net, x = net_of(name)
    if how == "script":
        return files.script(net, path), net
    if how == "script in training mode":
        return files.script(net.train(), path), net
    if how == "mobile":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(net)._save_for_lite_interpreter(str(path))
        return path, net
    return files.trace(net, x, path), net


def close(found: tuple[float, ...] | None, expected: Any) -> bool:
    if expected is None or found is None:
        return found is None and expected is None
    return list(found) == expected.detach().double().reshape(-1).tolist()


def agrees(found: BatchNormStatics, module: nn.Module) -> None:
    parts = {
        "weight": found.gamma,
        "bias": found.beta,
        "running_mean": found.running_mean,
        "running_var": found.running_var,
    }
    for own, values in parts.items():
        assert close(values, getattr(module, own)), own
    count: Any = module.num_batches_tracked
    assert found.batches_tracked == (None if count is None else int(count))


@pytest.mark.parametrize("how", ["script", "script in training mode", "trace", "mobile"])
@pytest.mark.parametrize("name", CASES)
def test_layers_are_those_of_the_loaded_file(tmp_path: Path, name: str, how: str) -> None:
    path, net = saved(name, how, tmp_path / "net.pt")
    found = inspect_torchscript(path)
    loaded = load_torchscript(path)
    assert [b.name for b in found.batchnorms] == [d.name for d in loaded.batchnorms]
    modules = dict(net.named_modules(remove_duplicate=False))
    for b, defined in zip(found.batchnorms, loaded.batchnorms, strict=True):
        if b.name not in modules:
            continue
        original: Any = modules[b.name]
        agrees(b, original)
        if defined.channels is not None:
            assert b.channels == defined.channels
        executed = b.name not in ("unused", "bn_side")
        if how != "trace" or executed:
            assert b.eps == original.eps
        if original.momentum is not None and (how != "trace" or executed):
            assert b.momentum == original.momentum
        without = original.running_mean is None
        assert b.training is (without or how == "script in training mode")
    own = list(loaded.module.parameters())
    assert found.parameters == sum(p.numel() for p in own)
    assert [i.name for i in found.inputs] == [i.name for i in loaded.inputs]


@pytest.mark.parametrize("net", ["digits_resnet", "tabular_mlp"])
@pytest.mark.parametrize("name", ["scripted.pt", "traced.pt"])
def test_fixtures(net: str, name: str) -> None:
    path = files.FIXTURES / net / name
    found, loaded = inspect_torchscript(path), load_torchscript(path)
    state = loaded.module.state_dict()
    assert [(b.name, b.channels) for b in found.batchnorms] == [
        (d.name, d.channels) for d in loaded.batchnorms
    ]
    for b in found.batchnorms:
        assert close(b.running_var, state[f"{b.name}.running_var"])
        assert b.eps == 1e-5
        assert b.feeder is not None
        assert f"{b.feeder.weight}" in state
    assert found.absence is None


def inspected(name: str, how: str, folder: Path) -> dict[str, BatchNormStatics]:
    found = inspect_torchscript(saved(name, how, folder / "net.pt")[0])
    return {b.name: b for b in found.batchnorms}


@pytest.mark.parametrize("how", ["script", "trace"])
def test_what_feeds_a_layer(tmp_path: Path, how: str) -> None:
    found = inspected("deep", how, tmp_path)
    feeders = {
        "stem.1": Feeder("stem.0.weight", "Conv", True, True),
        "blocks.0.bn": Feeder("blocks.0.conv.weight", "Conv", False, True),
        "blocks.1.bn": Feeder("blocks.1.conv.weight", "Conv", False, True),
        "bn_up": Feeder("up.weight", "ConvTranspose", True, True),
        "bn_fork": Feeder("fork.weight", "Conv", True, False),
        "bn_fc": Feeder("fc.weight", "Gemm", False, True),
    }
    assert {n: b.feeder for n, b in found.items() if b.feeder} == feeders
    before = {n: b.preceded_by for n, b in found.items()}
    assert before == {
        "bn0": "input",
        "stem.1": "Conv",
        "blocks.0.bn": "Conv",
        "blocks.1.bn": "Conv",
        "bn_up": "ConvTranspose",
        "bn_drop": "Dropout",
        "bn_fork": "Conv",
        "bn_fc": "Gemm",
        "bn_last": "BatchNormalization",
        "unused": None,
    }


@pytest.mark.parametrize("how", ["script", "trace"])
def test_an_operator_in_place_stands_between(tmp_path: Path, how: str) -> None:
    found = inspected("in_place", how, tmp_path)["bn"]
    assert (found.feeder, found.preceded_by) == (None, "Relu")


def test_the_training_flag_decides_for_a_branch(tmp_path: Path) -> None:
    found = inspected("by_mode", "script", tmp_path)
    assert found["bn"].feeder == Feeder("conv.weight", "Conv", True, True)
    assert found["bn_side"].feeder == Feeder("side.weight", "Conv", True, True)
    training = inspected("by_mode", "script in training mode", tmp_path)
    assert training["bn"].feeder == Feeder("conv.weight", "Conv", True, False)


def test_a_layer_behind_two_others_has_no_one_feeder(tmp_path: Path) -> None:
    found = inspected("Shared", "script", tmp_path)["bn"]
    assert found.feeder is None
    assert found.preceded_by == "Gemm"


def test_functional_calls_have_the_values_of_their_tensors(tmp_path: Path) -> None:
    path, net = saved("functional", "script", tmp_path / "net.pt")
    first, second = inspect_torchscript(path).batchnorms
    assert (first.name, first.eps, first.channels, first.dtype) == (
        "batch_norm_1",
        0.5,
        4,
        "float32",
    )
    assert first.feeder == Feeder("fc.weight", "Gemm", True, True)
    assert close(first.gamma, net.gamma)
    assert close(first.running_var, net.var)
    assert (second.eps, second.gamma, second.feeder) == (1e-5, None, None)


def frozen(name: str, path: Path, *, optimise: bool, inference: bool = False) -> Inspection:
    net, _ = net_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(net)
        module = (
            torch.jit.optimize_for_inference(script)
            if inference
            else torch.jit.freeze(script, optimize_numerics=optimise)
        )
        torch.jit.save(module, str(path))
    return inspect_torchscript(path)


def test_frozen_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    kept = frozen("PreActivation", path, optimise=False)
    names = [d.name for d in load_torchscript(path).batchnorms]
    assert [b.name for b in kept.batchnorms] == names == ["batch_norm_1", "batch_norm_2"]
    net, _ = net_of("PreActivation")
    assert close(kept.batchnorms[0].running_mean, net.bn1.running_mean)  # type: ignore[union-attr]
    assert kept.absence is None
    assert "cannot be told" in kept.notes[0]
    assert kept.facts == {"variant": "frozen"}

    folded = frozen("InPlace", path, optimise=True)
    assert folded.batchnorms == ()
    assert folded.absence is not None
    assert folded.absence.case == "frozen"
    assert "torch.jit.freeze" in folded.absence.evidence[0]

    partly = frozen("classifier", path, optimise=True)
    assert partly.batchnorms
    assert partly.absence is None
    assert "cannot be told" in partly.notes[0]

    nothing = frozen("classifier", path, optimise=False)
    assert (nothing.absence, nothing.notes) == (
        None,
        (),
    )  # one behind its convolution is still there

    for_inference = frozen("InPlace", path, optimise=True, inference=True)
    assert for_inference.absence is not None
    assert "optimize_for_inference" in for_inference.absence.evidence[0]


@pytest.mark.parametrize(
    ("name", "case"), [("no_norm", "unknown"), ("other", "other-normalisation")]
)
@pytest.mark.parametrize("how", ["script", "trace"])
def test_networks_without_batchnorm(tmp_path: Path, name: str, case: str, how: str) -> None:
    found = inspect_torchscript(saved(name, how, tmp_path / "net.pt")[0])
    assert found.batchnorms == ()
    assert found.absence is not None
    assert found.absence.case == case
    if name == "other":
        assert found.other_norms == {"GroupNorm": 1, "InstanceNorm2d": 1, "LayerNorm": 1}


def test_code_that_is_no_python_leaves_the_layers(tmp_path: Path) -> None:
    path, net = saved("twice", "script", tmp_path / "net.pt")
    odd = files.rewritten(
        path,
        tmp_path / "odd.pt",
        lambda name, data: (
            b"class (((" if name.endswith("net.py") or b"class Twice" in data else data
        ),
    )
    found = inspect_torchscript(odd)
    assert "could not be parsed" in found.notes[0]
    assert {b.name for b in found.batchnorms} == {"bn", "tied"}
    agrees(found.batchnorms[0], net.bn)  # type: ignore[arg-type]


def test_a_program_without_end(tmp_path: Path) -> None:
    """2^40 calls by forty functions that each call the next one twice."""
    path, _ = saved("twice", "script", tmp_path / "net.pt")
    text = "".join(
        f"def f{i}(x: Tensor) -> Tensor:\n  a = __torch__.bomb.f{i + 1}(x, )\n"
        f"  return __torch__.bomb.f{i + 1}(a, )\n"
        for i in range(40)
    )
    start = (
        b"class Twice(Module):\n  def forward(self, x: Tensor) -> Tensor:\n"
        b"    return __torch__.bomb.f0(x, )\n"
    )

    def change(name: str, data: bytes) -> bytes:
        return start if "Twice" in data.decode("latin-1") and name.endswith(".py") else data

    odd = files.rewritten(path, tmp_path / "odd.pt", change)
    import zipfile

    with zipfile.ZipFile(odd, "a") as archive:
        archive.writestr("net/code/__torch__/bomb.py", text)
    found = inspect_torchscript(odd)
    assert any("too long" in note for note in found.notes)


def test_damaged_files(tmp_path: Path) -> None:
    path, _ = saved("twice", "script", tmp_path / "net.pt")
    for part in ("data.pkl", "data/3", "constants.pkl"):
        odd = files.rewritten(
            path,
            tmp_path / "odd.pt",
            lambda name, data, part=part: data[:1] if name.endswith(part) else data,  # type: ignore[misc]
        )
        with pytest.raises(InputError, match=r"odd\.pt"):
            inspect_torchscript(odd)


def test_nothing_is_imported_from_torch(tmp_path: Path) -> None:
    import subprocess

    path, _ = saved("deep", "script", tmp_path / "net.pt")
    code = (
        "import sys; from pathlib import Path; from bnaudit.inspection.torchscript import *;"
        f"inspect_torchscript(Path({str(path)!r}));"
        "print([m for m in ('torch', 'numpy', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Wrapper(nn.Module):
    """Called as what it holds, as torch_geometric's and speechbrain's BatchNorm are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out


Wrapper.__name__ = Wrapper.__qualname__ = "BatchNorm"


@pytest.mark.parametrize("how", ["script", "trace", "pickle"])
def test_a_wrapper_of_the_name_is_no_layer(tmp_path: Path, how: str) -> None:
    net, path = nn.Sequential(nn.Linear(4, 8), Wrapper(8)).eval(), tmp_path / "net.pt"
    if how == "pickle":
        monkey = sys.modules[Wrapper.__module__]
        monkey.BatchNorm = Wrapper  # type: ignore[attr-defined]
        torch.save(net, path)
        assert [b.name for b in inspect_file(path).batchnorms] == ["1.norm"]
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(net) if how == "script" else torch.jit.trace(net, torch.rand(3, 4))
        made.save(str(path))
    assert [b.name for b in inspect_torchscript(path).batchnorms] == ["1.norm"]
    assert [d.name for d in load_torchscript(path).batchnorms] == ["1.norm"]
