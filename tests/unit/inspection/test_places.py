"""One BatchNorm in several places, told from the file and from a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import bnaudit
from bnaudit.inspecting import inspect
from tests.load.files import script, trace
from tests.load.onnx.models import batchnorm_constants, graph_model

if TYPE_CHECKING:
    from pathlib import Path


class Levels(nn.Module):
    """A head that is shared over two levels of a pyramid, the BatchNorm in it included."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def level(self, x: Tensor) -> Tensor:
        """One level through the head."""
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Both levels: the second is brighter and has more contrast."""
        return self.level(x) + self.level(3 * x + 1)


class Registered(nn.Module):
    """One module behind two names, both of which are called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 8)
        self.bn = nn.BatchNorm1d(8)
        self.again = self.bn

    def forward(self, x: Tensor) -> Tensor:
        """The second layer reads the first."""
        return self.again(self.b(torch.relu(self.bn(self.a(x)))))


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """With the average of both places."""
    torch.optim.swa_utils.update_bn([x], net)
    return net.eval()


@pytest.fixture
def levels() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(128, 1, 6, 6) + torch.rand(128, 1, 1, 1)
    return settled(Levels(), x), x


def places(path: Path) -> dict[str, tuple[str, ...]]:
    return {bn.name: bn.places for bn in inspect(path).inspection.batchnorms}


@pytest.mark.parametrize("kind", ["live", "scripted"])
def test_two_levels_are_one_story(
    levels: tuple[nn.Module, Tensor], tmp_path: Path, kind: str
) -> None:
    """Each call's drift, the remedy to separate, and no advice to recompute."""
    net, x = levels
    model = net if kind == "live" else script(net, tmp_path / "net.pt")
    report = bnaudit.audit(model, data={"x": x})
    (finding,) = [
        f for f in report.findings if f.rule in {"BN002", "BN020", "BN201", "BN202", "BN210"}
    ]
    assert (finding.rule, finding.layer, finding.severity.label) == ("BN210", "bn", "error")
    assert finding.message.startswith("one BatchNorm in 2 places")
    assert "bn#2" in finding.message
    assert "(BN20" in finding.message
    assert "BatchNorm of its own" in finding.fix
    refused = bnaudit.recalibrate(model, data={"x": x}).refusals
    assert [r.case for r in refused] == ["shared"]


def test_places_that_see_the_same_are_no_defect() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn = nn.Linear(6, 8), nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.a(x[:, 0])) - self.bn(self.a(x[:, 1]))

    torch.manual_seed(0)
    x = torch.randn(512, 2, 6)
    report = bnaudit.audit(settled(Siamese(), x), data=x)
    assert len(report.layers) == 2
    assert not {f.rule for f in report.findings} & {"BN201", "BN202", "BN210"}


@pytest.mark.parametrize("kind", ["live", "scripted", "traced"])
def test_a_second_name_of_an_executed_layer_was_executed(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    net, x = Registered().eval(), torch.randn(64, 6)
    model: object = net
    if kind != "live":
        path = tmp_path / "net.pt"
        model = script(net, path) if kind == "scripted" else trace(net, x[:2], path)
    report = bnaudit.audit(model, data=[x])  # type: ignore[arg-type]
    assert report.model.defined == ("bn",)
    assert report.model.not_executed == ()
    assert not [f for f in report.findings if f.rule == "BN002"]
    assert report.inspection is not None
    (layer,) = report.inspection.batchnorms
    assert "again" in layer.places


def test_shared_storage_in_a_checkpoint(tmp_path: Path) -> None:
    net = Registered()
    torch.save(net.state_dict(), tmp_path / "shared.pth")
    assert places(tmp_path / "shared.pth") == {"bn": ("again",), "again": ("bn",)}
    report = inspect(tmp_path / "shared.pth")
    (finding,) = [f for f in report.findings if f.rule == "BN020"]
    assert finding.layer == "bn"
    assert finding.message == "its running statistics are used in 2 places: also again"
    copied = {k: v.clone() for k, v in net.state_dict().items()}
    torch.save(copied, tmp_path / "apart.pth")
    assert places(tmp_path / "apart.pth") == {"bn": (), "again": ()}


def test_one_module_in_a_whole_pickle(tmp_path: Path) -> None:
    torch.save(Registered(), tmp_path / "whole.pth")
    assert places(tmp_path / "whole.pth") == {"bn": ("again",)}


def test_two_nodes_of_an_onnx_file(tmp_path: Path) -> None:
    inputs = [f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("BatchNormalization", ["x", *inputs], ["a"], name="one"),
        helper.make_node("BatchNormalization", ["a", *inputs], ["y"], name="two"),
    ]
    onnx.save(
        graph_model(nodes, {"x": ["n", 4]}, ["y"], batchnorm_constants("bn", 4)),
        tmp_path / "n.onnx",
    )
    assert places(tmp_path / "n.onnx") == {"bn": ("node 'two'",)}


def test_a_call_of_its_own_in_scripted_code(
    levels: tuple[nn.Module, Tensor], tmp_path: Path
) -> None:
    path = script(levels[0], tmp_path / "net.pt")
    assert places(path) == {"bn": ("call 2 of its code",)}
