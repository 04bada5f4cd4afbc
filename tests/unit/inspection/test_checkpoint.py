"""Checkpoints as they occur in the wild: what is in them, what they are called, why BatchNorm is missing."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnaudit
from bnaudit.errors import InputError, UsageError
from bnaudit.inspection.checkpoint import inspect_checkpoint
from bnaudit.inspection.live import inspect_live
from bnaudit.load.live import load_live
from bnaudit.load.sniff import FileKind, sniff
from tests.load.files import FIXTURES
from tests.unit.inspection import nets

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.inspection import BatchNormStatics, Inspection

IMAGE = torch.randn(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
VALUES = ("channels", "gamma", "beta", "running_mean", "running_var", "batches_tracked", "dtype")


def deep() -> nn.Module:
    torch.manual_seed(3)
    return nets.train_a_little(nets.Deep(), IMAGE)


def save(content: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def inspect(content: object, folder: Path, *, legacy: bool = False) -> Inspection:
    path = save(content, folder / "x.pt", legacy=legacy)
    assert sniff(path) is FileKind.CHECKPOINT
    return inspect_checkpoint(path)


def live(net: nn.Module) -> dict[str, BatchNormStatics]:
    return {b.name: b for b in inspect_live(load_live(net)).batchnorms}


def same_values(found: Inspection, net: nn.Module) -> None:
    """The layers with running statistics, in order, with every number."""
    expected = {n: b for n, b in live(net).items() if b.running_mean is not None}
    assert [b.name for b in found.batchnorms] == list(expected)
    for b in found.batchnorms:
        for part in VALUES:
            assert getattr(b, part) == getattr(expected[b.name], part), (b.name, part)
        assert (b.eps, b.momentum, b.training, b.feeder) == (None, None, None, None)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_state_dict(tmp_path: Path, dtype: torch.dtype, *, legacy: bool) -> None:
    net = deep().to(dtype)
    found = inspect(net.state_dict(), tmp_path, legacy=legacy)
    same_values(found, net)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    own = [t for n, t in net.state_dict().items() if not n.endswith(statistics)]
    assert found.parameters == sum(t.numel() for t in own)
    assert found.facts == {"format": "legacy" if legacy else "zip"}
    assert found.size == (tmp_path / "x.pt").stat().st_size
    assert found.absence is None


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_module_tells_all(tmp_path: Path, *, legacy: bool) -> None:
    net = deep()
    net.bn_up = nn.SyncBatchNorm(6)
    found = inspect(net, tmp_path, legacy=legacy)
    expected = live(net)
    assert [b.name for b in found.batchnorms] == list(expected)
    for b in found.batchnorms:
        other = expected[b.name]
        for part in (*VALUES, "eps", "momentum", "training"):
            if part != "dtype" or other.dtype is not None:
                assert getattr(b, part) == getattr(other, part), (b.name, part)
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert found.weight_layers == 6
    assert found.facts["class"] == "tests.unit.inspection.nets.Deep"
    assert any("none of its code was run" in note for note in found.notes)


class Renamed(nn.BatchNorm2d):
    pass


def test_whole_modules_of_every_kind(tmp_path: Path) -> None:
    shared = nn.BatchNorm2d(2)
    net = nn.Sequential(shared, Renamed(2), shared, nn.InstanceNorm2d(2, track_running_stats=True))
    found = inspect({"model": net, "epoch": 1}, tmp_path)
    assert [b.name for b in found.batchnorms] == ["0", "1"]
    assert found.other_norms == {"InstanceNorm2d": 1}
    assert "read from its entry 'model'" in found.notes
    alone = inspect(nn.BatchNorm1d(3), tmp_path)
    assert [b.name for b in alone.batchnorms] == ["BatchNorm1d"]
    parallel = inspect(nn.DataParallel(net), tmp_path)
    assert [b.name for b in parallel.batchnorms] == ["0", "1"]


WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrappers_come_off(tmp_path: Path, prefix: str) -> None:
    net = deep()
    state = {prefix + n: t for n, t in net.state_dict().items()}
    found = inspect(state, tmp_path)
    same_values(found, net)
    assert found.batchnorms[0].origin == f"tensors {prefix}bn0.*"
    assert any("taken off" in note for note in found.notes)


def test_names_of_authors_stay(tmp_path: Path) -> None:
    state = {f"model.{n}": t for n, t in deep().state_dict().items()}
    assert inspect(state, tmp_path).batchnorms[0].name == "model.bn0"
    some = {**state, "module.x": torch.ones(2)}
    assert inspect(some, tmp_path).batchnorms[0].name == "model.bn0"
    averaged = {f"module.{n}": t for n, t in deep().state_dict().items()}
    averaged["n_averaged"] = torch.tensor(5)
    assert inspect(averaged, tmp_path).batchnorms[0].name == "bn0"


def training_checkpoint(net: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    optimizer.step()
    net.load_state_dict(before)
    return {
        "epoch": 7,
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu")),
        "dtype": torch.float32,
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "params", "ema"])
def test_training_checkpoints(tmp_path: Path, key: str, *, legacy: bool) -> None:
    net = deep()
    content = {**training_checkpoint(net), key: net.state_dict()}
    found = inspect(content, tmp_path, legacy=legacy)
    same_values(found, net)
    assert found.notes[0] == f"read from its entry {key!r}"


def test_moving_averages_stand_beside_the_model(tmp_path: Path) -> None:
    net, other = deep(), nets.Deep()
    content = {"ema": other.state_dict(), "model": {"state_dict": net.state_dict()}}
    found = inspect(content, tmp_path)
    own = [b for b in found.batchnorms if not b.name.startswith("ema.")]
    same_values(replace(found, batchnorms=tuple(own)), net)
    assert len(found.batchnorms) == 2 * len(own)
    assert found.notes[0] == "read from its entry 'model.state_dict' (beside it: ema)"
    only = inspect({"model": None, "ema": net, "updates": 3}, tmp_path)
    assert only.notes[0] == "read from its entry 'ema'"


def test_lightning(tmp_path: Path) -> None:
    net = deep()
    content = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict((f"model.{n}", t) for n, t in net.state_dict().items()),
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
    }
    found = inspect(content, tmp_path)
    assert found.producer == "pytorch-lightning 2.4.0"
    assert found.batchnorms[1].name == "model.stem.1"


def test_counters_of_any_type(tmp_path: Path) -> None:
    state = nn.BatchNorm1d(2).state_dict()
    for value, expected in (
        (torch.tensor(7.0), 7),
        (torch.tensor([9]), 9),
        (torch.tensor(4).int(), 4),
    ):
        found = inspect(
            {f"bn.{n}": t for n, t in {**state, "num_batches_tracked": value}.items()}, tmp_path
        )
        assert found.batchnorms[0].batches_tracked == expected
    state["num_batches_tracked"] = torch.tensor(float("nan"))
    assert inspect({"model": state}, tmp_path).batchnorms[0].batches_tracked is None


def test_numbers_that_are_none_come_through(tmp_path: Path) -> None:
    state = nn.BatchNorm1d(3).state_dict()
    state["running_var"] = torch.tensor([1.0, float("nan"), float("inf")])
    (found,) = inspect({f"bn.{n}": t for n, t in state.items()}, tmp_path).batchnorms
    assert str(found.running_var) == "(1.0, nan, inf)"


def test_what_only_looks_like_batchnorm(tmp_path: Path) -> None:
    one = torch.ones
    state = {
        "short.running_mean": one(3),
        "short.running_var": one(4),
        "other.running_mean": one(3),
        "other.running_var": one(3),
        "other.weight": one(5),
        "flat.running_mean": one(3, 1),
        "flat.running_var": one(3, 1),
        "norm.weight": one(3),
        "norm.bias": one(3),
        "good.running_mean": one(1),
        "good.running_var": one(1),
    }
    found = inspect(state, tmp_path)
    assert [b.name for b in found.batchnorms] == ["flat", "good"]
    assert found.batchnorms[0].gamma is None
    assert any("flat: statistics of more than one dimension" in note for note in found.notes)
    assert any("short, other: running statistics" in note for note in found.notes)
    assert any("1 pairs of vectors" in note and "norm" in note for note in found.notes)


# Shapes of the tensors, and the case and a word of the evidence.
ABSENT: dict[str, tuple[dict[str, Any], str, str]] = {
    "layer norm": (
        {"norm1.weight": (4,), "norm1.bias": (4,), "fc.weight": (2, 4)},
        "other-normalisation",
        "norm1",
    ),
    "no buffers": (
        {"bn1.weight": (4,), "bn1.bias": (4,), "c.weight": (2, 4, 1, 1)},
        "unknown",
        "named_parameters",
    ),
    "biased": ({"c.weight": (2, 4, 1, 1), "c.bias": (2,)}, "unknown", "folding"),
    "linear": ({"c.weight": (2, 4)}, "none", "no tensors"),
    "observers": (
        {"c.weight": (2, 4), "c.weight_fake_quant.zero_point": (1,)},
        "quantised",
        "zero_point",
    ),
}


@pytest.mark.parametrize("name", ABSENT)
def test_why_a_state_dict_has_none(tmp_path: Path, name: str) -> None:
    shapes, case, evidence = ABSENT[name]
    found = inspect({n: torch.ones(*shape) for n, shape in shapes.items()}, tmp_path)
    assert found.batchnorms == ()
    assert found.absence is not None
    assert found.absence.case == case
    assert evidence in " ".join(found.absence.evidence)
    assert found.absence.fix


def test_why_a_whole_module_has_none(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = torch.ao.quantization.fuse_modules(net, [["0", "1", "2"]])
    absence = inspect(fused, tmp_path).absence
    assert absence is not None
    assert absence.case == "folded"
    other = inspect(nets.OtherNorms(), tmp_path)
    assert other.absence is not None
    assert other.absence.case == "other-normalisation"
    assert other.other_norms == {"GroupNorm": 1, "InstanceNorm2d": 1, "LayerNorm": 1}
    none = inspect(nets.NoNorm(), tmp_path).absence
    assert none is not None
    assert none.case == "none"


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.ones(3), "text", {"epoch": 3}, {"optimizer": {"state": {0: torch.ones(2)}}}, {}],
)
def test_what_holds_no_weights(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match=r"x\.pt") as caught:
        inspect(content, tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("net", ["digits_resnet", "tabular_mlp"])
def test_fixtures(net: str) -> None:
    path = FIXTURES / net / "state_dict.pt"
    state = torch.load(path, weights_only=True)
    found = inspect_checkpoint(path)
    names = [n.removesuffix(".running_var") for n in state if n.endswith("running_var")]
    assert [b.name for b in found.batchnorms] == names
    for b in found.batchnorms:
        assert list(b.running_var or ()) == state[f"{b.name}.running_var"].double().tolist()


def test_only_vectors_of_batchnorm_are_read(tmp_path: Path) -> None:
    """The bytes of the big weights may be anything: nobody looks."""
    state = {
        "w": torch.full((4000, 500), 7.0),
        **{f"bn.{n}": t for n, t in nn.BatchNorm1d(3).state_dict().items()},
    }
    path = save(state, tmp_path / "x.pt")
    data = path.read_bytes()
    at = data.index(torch.full((100,), 7.0).numpy().tobytes())
    path.write_bytes(data[:at] + bytes(100) + data[at + 100 :])
    assert inspect_checkpoint(path).batchnorms[0].channels == 3


def test_entries_without_end(tmp_path: Path) -> None:
    """Dicts that share their contents describe a tree of 10^24 entries."""
    level: dict[str, Any] = {"x": 1}
    for _ in range(6):
        level = {f"k{i}": level for i in range(10_000)}
    path = save(level, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt"):
        inspect_checkpoint(path)


def test_modules_without_end(tmp_path: Path) -> None:
    net = nn.Module()
    net.inner = nn.Module()
    net.inner.outer = net
    with pytest.raises(InputError, match="without end"):
        inspect(net, tmp_path)


def test_memory_and_imports(tmp_path: Path) -> None:
    """60 MB of weights are not read: a process of its own stays below 40 MB."""
    import subprocess

    state = {"w": torch.zeros(15_000_000), **deep().state_dict()}
    paths = [save(state, tmp_path / "new.pt"), save(state, tmp_path / "old.pt", legacy=True)]
    for path in paths:
        code = (
            "import sys, resource; from pathlib import Path;"
            "from bnaudit.inspection.checkpoint import inspect_checkpoint;"
            f"inspect_checkpoint(Path({str(path)!r}));"
            "print([m for m in ('torch', 'numpy', 'onnx') if m in sys.modules],"
            "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 40_000)"
        )
        # Its peak counts what it shares with its parent until it starts: a shell stands between.
        done = subprocess.run(
            ["sh", "-c", f'"{sys.executable}" -c "$CODE"'],
            capture_output=True,
            text=True,
            check=True,
            env={**__import__("os").environ, "CODE": code},
        )
        assert done.stdout.strip() == "[] True"


def test_one_eps_is_assumed_where_none_is_stored(tmp_path: Path) -> None:
    """The table, the JSON and the rules say the same: 1e-5, and that it is assumed."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))
    net[1].get_buffer("running_var").fill_(1.0)[:2] = torch.tensor([0.0, 3e-6])
    path = save(net.state_dict(), tmp_path / "x.pt")
    document = json.loads(bnaudit.inspect(path).to_json(channels=True))
    (layer,) = document["layers"]
    assert layer["eps"] is None
    gain = layer["channel_values"]["gain"]
    assert gain == pytest.approx([1e-5**-0.5, 1.3e-5**-0.5, *[1.00001**-0.5] * 6], rel=1e-6)
    assumed = "the file stores no eps: 1e-05, PyTorch's default, is assumed"
    assert document["model"]["notes"] == [assumed]
    table = " ".join(bnaudit.inspect(path).to_table().split())
    assert assumed in table
    assert "counts as 0" not in table
    collapsed = [f for f in document["findings"] if f["rule"] == "BN018"]
    assert [f["layer"] for f in collapsed] == ["1"]
    assert "below eps = 1e-05 in 2 of 8 channels" in collapsed[0]["message"]


def test_a_stored_eps_is_not_called_assumed(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.jit.script(nn.Sequential(nn.BatchNorm1d(4, eps=0.5)).eval()).save(path)
    assert bnaudit.inspect(path).inspection.notes == ()


def sick(layer: str) -> dict[str, torch.Tensor]:
    state = {n: t.clone() for n, t in deep().state_dict().items()}
    state[f"{layer}.running_var"][1] = float("nan")
    return state


@pytest.mark.parametrize("key", ["state_dict_ema", "ema", "teacher", "discriminator", "model_ema"])
def test_every_network_of_a_checkpoint_is_judged(tmp_path: Path, key: str) -> None:
    content = {"epoch": 7, "state_dict": deep().state_dict(), key: sick("stem.1")}
    path = save(content, tmp_path / "x.pt")
    report = bnaudit.inspect(path)
    found = [(f.rule, f.layer) for f in report.findings if f.severity.label == "error"]
    assert ("BN006", f"{key}.stem.1") in found
    assert report.exit_code == 1
    assert any(f"judged as well: {key}; --entry KEY" in note for note in report.inspection.notes)
    names = [b.name for b in report.inspection.batchnorms]
    assert len(names) == len(set(names))
    assert len(names) == 2 * len([n for n in names if not n.startswith(key)])
    every = sum(p.numel() for p in deep().parameters())
    assert report.inspection.parameters == 2 * every
    assert bnaudit.inspect(path, entry=key).inspection.parameters == every


def test_one_entry_can_be_chosen(tmp_path: Path) -> None:
    inner = {"module": sick("stem.1"), "decay": 0.9}
    content = {"state_dict": deep().state_dict(), "ema": inner, "optimizer": {"state": {}}}
    path = save(content, tmp_path / "x.pt")
    for entry in ("ema", "ema.module"):
        report = bnaudit.inspect(path, entry=entry)
        assert [b.name for b in report.inspection.batchnorms][:2] == ["bn0", "stem.1"]
        assert ("BN006", "stem.1") in [(f.rule, f.layer) for f in report.findings]
        assert any("read from its entry 'ema.module'" in note for note in report.inspection.notes)
    assert "BN006" not in [f.rule for f in bnaudit.inspect(path, entry="state_dict").findings]
    with pytest.raises(InputError, match="has no entry 'emma'") as caught:
        bnaudit.inspect(path, entry="emma")
    assert caught.value.hint == "its keys are: state_dict, ema, optimizer"


@pytest.mark.parametrize("entry", ["ema.model", "ema.model.net"])
def test_keys_of_entries_may_hold_dots(tmp_path: Path, entry: str) -> None:
    content = {"model": deep().state_dict(), "ema": {}, "ema.model": {"net": sick("stem.1")}}
    report = bnaudit.inspect(save(content, tmp_path / "x.pt"), entry=entry)
    assert ("BN006", "stem.1") in [(f.rule, f.layer) for f in report.findings]


def test_entries_are_of_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.jit.script(nn.Sequential(nn.BatchNorm1d(4)).eval()).save(path)
    with pytest.raises(UsageError, match="files have no entries"):
        bnaudit.inspect(path, entry="ema")


@pytest.mark.parametrize("legacy", [False, True])
def test_weight_normalisation_is_named(tmp_path: Path, legacy: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new, old = nn.utils.parametrizations.weight_norm, nn.utils.weight_norm
        conv = (old if legacy else new)(nn.Conv1d(3, 4, 3))
    found = inspect(nn.Sequential(conv).state_dict(), tmp_path)
    assert found.absence is not None
    assert found.absence.case == "other-normalisation"
    assert "weight normalisation of 1 layer" in found.absence.evidence[0]
