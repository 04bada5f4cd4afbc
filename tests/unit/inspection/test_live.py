"""Live modules: what they hold, whatever their class."""

from __future__ import annotations

import torch
from torch import nn

from bnaudit.inspection.live import inspect_live
from bnaudit.load.live import load_live
from tests.unit.inspection import nets


class Renamed(nn.BatchNorm2d):
    pass


def test_every_flavour() -> None:
    net = nets.Deep()
    found = inspect_live(load_live(net))
    names = [p for p, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert [b.name for b in found.batchnorms] == names
    by_name = {b.name: b for b in found.batchnorms}
    assert by_name["stem.1"].momentum is None
    assert by_name["blocks.0.bn"].eps == 1e-3
    assert by_name["blocks.0.bn"].training is True
    assert by_name["bn_last"].channels == 5
    assert by_name["bn_last"].running_mean is None
    assert (found.kind, found.path, found.weight_layers) == ("module", "Deep", 6)
    assert found.parameters == sum(p.numel() for p in net.parameters())


def test_subclasses_wrappers_types_and_several_names() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), Renamed(2), nn.SyncBatchNorm(2)).bfloat16()
    net.add_module("again", net[1])
    found = inspect_live(load_live(net))
    assert [b.name for b in found.batchnorms] == ["1", "2"]
    assert found.batchnorms[0].dtype == "bfloat16"
    assert found.batchnorms[0].batches_tracked == 0
    assert found.notes == ("again is 1 under another name",)
    root = inspect_live(load_live(nn.BatchNorm1d(3)))
    assert [b.name for b in root.batchnorms] == ["BatchNorm1d"]
    meta = inspect_live(load_live(nn.BatchNorm1d(3, device="meta")))
    assert meta.batchnorms[0].gamma is None
    assert meta.batchnorms[0].channels == 3


def test_scripted_modules_too() -> None:
    net = torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval())
    found = inspect_live(load_live(net))
    assert [(b.name, b.training) for b in found.batchnorms] == [("1", False)]


def test_why_there_is_none() -> None:
    assert inspect_live(load_live(nets.NoNorm())).absence.case == "none"  # type: ignore[union-attr]
    other = inspect_live(load_live(nets.OtherNorms()))
    assert other.absence is not None
    assert other.absence.case == "other-normalisation"
    assert other.other_norms == {"GroupNorm": 1, "InstanceNorm2d": 1, "LayerNorm": 1}
    fused = nn.Sequential()
    fused.add_module("conv1", nn.Conv2d(1, 2, 1))
    fused.add_module("bn1", nn.Identity())
    absence = inspect_live(load_live(fused)).absence
    assert absence is not None
    assert absence.case == "folded"
    assert "bn1" in absence.evidence[0]
