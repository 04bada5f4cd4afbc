"""A .pt2 file as data against the network it was exported from."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bnaudit.errors import InputError
from bnaudit.inspection.exported import inspect_exported
from bnaudit.inspection.live import inspect_live
from bnaudit.load.live import load_live
from bnaudit.load.weights import read_weights
from bnaudit.records.inspection import Feeder
from tests.load import files
from tests.unit.inspection import nets

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = torch.randn(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
# How the program was made -> arguments of run_decompositions, None for none.
FORMS: dict[str, tuple[Any, ...] | None] = {"plain": None, "functional": ({},), "core": ()}


def export(net: nn.Module, x: torch.Tensor, path: Path, form: str = "plain") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
        decompose = FORMS[form]
        if decompose is not None:
            program = program.run_decompositions(*decompose)
        torch.export.save(program, str(path))
    return path


def deep() -> nn.Module:
    torch.manual_seed(3)
    return nets.train_a_little(nets.Deep(), IMAGE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [False, True])
def test_layers_are_those_of_the_network(tmp_path: Path, form: str, *, training: bool) -> None:
    net = deep()
    net.stem[1].momentum = 0.5  # type: ignore[index,union-attr]  # None cannot be exported in training
    net.train(training)
    found = inspect_exported(export(net, IMAGE, tmp_path / "net.pt2", form))
    live = {b.name: b for b in inspect_live(load_live(net)).batchnorms}
    assert {b.name for b in found.batchnorms} == live.keys()
    for b in found.batchnorms:
        other = live[b.name]
        for part in ("gamma", "beta", "running_mean", "running_var", "batches_tracked"):
            assert getattr(b, part) == getattr(other, part), (b.name, part)
        if b.name == "unused":
            assert "never read" in b.origin
            continue
        assert b.eps == other.eps
        if b.running_mean is not None:
            assert b.momentum == other.momentum
            assert b.training is training
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert found.inputs[0].name == "x"
    assert found.inputs[0].shape is not None
    assert found.inputs[0].shape[1:] == (1, 9, 9)
    assert isinstance(found.inputs[0].shape[0], str)
    assert found.inputs[0].dtype == "float32"
    assert found.producer == f"pytorch {torch.__version__}"
    assert found.weight_layers == 6


@pytest.mark.parametrize("form", FORMS)
def test_what_feeds_a_layer(tmp_path: Path, form: str) -> None:
    found = {
        b.name: b
        for b in inspect_exported(export(deep(), IMAGE, tmp_path / "x.pt2", form)).batchnorms
    }
    linear = "Gemm" if form != "core" else "MatMul"
    assert {n: b.feeder for n, b in found.items() if b.feeder} == {
        "stem.1": Feeder("stem.0.weight", "Conv", True, True),
        "blocks.0.bn": Feeder("blocks.0.conv.weight", "Conv", False, True),
        "blocks.1.bn": Feeder("blocks.1.conv.weight", "Conv", False, True),
        "bn_up": Feeder("up.weight", "ConvTranspose", True, True),
        "bn_fork": Feeder("fork.weight", "Conv", True, False),
        "bn_fc": Feeder("fc.weight", linear, False, True),
    }
    assert found["bn0"].preceded_by == "input"
    assert found["bn_last"].preceded_by in ("BatchNormalization", "Split")


def test_its_weights_by_name(tmp_path: Path) -> None:
    net = deep()
    found = {t.name: t for t in read_weights(export(net, IMAGE, tmp_path / "x.pt2")).tensors}
    state = {n: t for n, t in net.state_dict().items() if t.is_floating_point()}
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name].read(), tensor.double().numpy())


def test_an_operator_in_place_stands_between(tmp_path: Path) -> None:
    net = nets.train_a_little(nets.InPlaceBefore(), IMAGE)
    (found,) = inspect_exported(export(net, IMAGE, tmp_path / "x.pt2")).batchnorms
    assert (found.feeder, found.preceded_by) == (None, "Relu")


def test_shared_and_functional_layers(tmp_path: Path) -> None:
    net = nets.train_a_little(nets.Twice(), ROWS)
    found = inspect_exported(export(net, ROWS, tmp_path / "x.pt2")).batchnorms
    assert [b.name for b in found] == ["bn", "tied"]
    assert found[0].gamma == found[1].gamma
    assert found[0].feeder is None  # called twice, behind different layers
    functional = nets.train_a_little(nets.Functional(), ROWS)
    first = inspect_exported(export(functional, ROWS, tmp_path / "y.pt2")).batchnorms[0]
    assert first.eps == 0.5
    assert first.running_var == tuple(functional.var.double().tolist())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("cls", "case"), [(nets.NoNorm, "unknown"), (nets.OtherNorms, "other-normalisation")]
)
def test_networks_without_batchnorm(tmp_path: Path, cls: type[nn.Module], case: str) -> None:
    found = inspect_exported(export(cls().eval(), IMAGE, tmp_path / "x.pt2"))
    assert found.batchnorms == ()
    assert found.absence is not None
    assert found.absence.case == case
    if cls is nets.OtherNorms:
        assert sum(found.other_norms.values()) == 3


def test_statistics_that_another_normalisation_reads_are_not_left_over(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True))
    found = inspect_exported(export(net.eval(), IMAGE, tmp_path / "x.pt2"))
    assert found.absence is not None
    assert found.absence.case == "other-normalisation"


def test_a_symbolic_size_goes_by_its_symbol(tmp_path: Path) -> None:
    found = inspect_exported(export(deep().eval(), IMAGE, tmp_path / "x.pt2"))
    batch, *rest = found.inputs[0].shape or ()
    assert isinstance(batch, str)
    assert batch.isidentifier()
    assert rest == [1, 9, 9]


def test_a_batchnorm_that_was_taken_apart_is_judged_by_what_it_stores(tmp_path: Path) -> None:
    path = export(nets.train_a_little(nets.InPlaceBefore(), IMAGE), IMAGE, tmp_path / "x.pt2")

    def fold(name: str, data: bytes) -> bytes:
        return data.replace(b"aten.batch_norm.default", b"aten.mul.Tensor")

    found = inspect_exported(files.rewritten(path, tmp_path / "y.pt2", fold))
    assert [b.name for b in found.batchnorms] == ["bn"]
    assert found.absence is not None
    assert found.absence.case == "other-form"
    assert "bn" in found.absence.evidence[0]


def test_weights_that_are_pickles_stay_closed(tmp_path: Path) -> None:
    path = export(nets.train_a_little(nets.InPlaceBefore(), IMAGE), IMAGE, tmp_path / "x.pt2")

    def pickled(name: str, data: bytes) -> bytes:
        return data.replace(b'"use_pickle": false', b'"use_pickle": true')

    found = inspect_exported(files.rewritten(path, tmp_path / "y.pt2", pickled))
    assert found.batchnorms[0].running_mean is None
    assert found.batchnorms[0].channels == 4
    assert "were not read" in found.notes[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: b"{",
        lambda d: b"[]",
        lambda d: b"{}",
        lambda d: json.dumps({"graph_module": 3}).encode(),
        lambda d: d.replace(b'"inputs"', b'"outputs"'),
        lambda d: d.replace(b'"as_tensor": {', b'"as_tensor": {"name": 3, "as_graph": {'),
    ],
)
def test_damaged_graphs(tmp_path: Path, change: Any) -> None:
    path = export(nets.NoNorm().eval(), IMAGE, tmp_path / "x.pt2")
    odd = files.rewritten(
        path, tmp_path / "y.pt2", lambda name, data: change(data) if "model.json" in name else data
    )
    with pytest.raises(InputError, match=r"y\.pt2"):
        inspect_exported(odd)
