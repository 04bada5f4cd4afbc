"""The sweep against double backward in float64, in every form that a model comes in, in all its details.

The code that compares is the bench's; docs/performance.md has its table for networks of real size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

pytest.importorskip("onnxscript")

from bench.agreement.__main__ import DOCUMENT, TOLERANCE
from bench.agreement.compare import DETAILS, Agreement, compared
from bench.agreement.forms import channels_last, light
from bench.agreement.nets import Attention
from bench.theory_numbers import blocks
from bench.vision.cells import Way, write

from bnaudit.measure.sweep.pointwise import bend
from tests import nets
from tests.load.files import export
from tests.theory import sweep_nets

if TYPE_CHECKING:
    from pathlib import Path

NETS: dict[str, tuple[type[torch.nn.Module], int]] = {
    "squeeze_excite": (sweep_nets.SqueezeExcite, 3),
    "shuffle": (sweep_nets.Shuffle, 2),
    "unet": (sweep_nets.UNet, 3),
    "attention": (Attention, 8),
}


def made(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    cls, _ = NETS[name]
    net = nets.make(cls).eval()
    small = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    return net, small if cls is Attention else sweep_nets.inputs_for(cls)


def assert_agrees(found: Agreement, layers: int) -> None:
    assert not found.failed
    assert found.notes == []
    assert found.layers == found.compared == found.swept == layers
    assert set(found.differences) == set(DETAILS)
    assert all(d <= TOLERANCE for d in found.differences.values()), (found.differences, found.worst)
    assert found.residual <= 1e-12


@pytest.mark.parametrize(
    ("name", "decompose"),
    [("squeeze_excite", False), ("squeeze_excite", True), ("attention", False)],
)
def test_exported_programs(name: str, decompose: bool, tmp_path: Path) -> None:
    net, x = made(name)
    path = export(net, tmp_path / "net.pt2", x, decompose=decompose)
    assert_agrees(compared(path, x, trust=True), NETS[name][1])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, Way("torchscript", 17)) for name in NETS),
        *((name, Way("dynamo", 18)) for name in ("squeeze_excite", "attention")),
    ],
    ids=str,
)
def test_onnx(name: str, way: Way, tmp_path: Path) -> None:
    net, x = made(name)
    write(way, net, x, tmp_path / "net.onnx")
    assert_agrees(compared(tmp_path / "net.onnx", x), NETS[name][1])


@pytest.mark.parametrize("name", NETS)
def test_channels_last(name: str) -> None:
    assert_agrees(compared(*channels_last(*made(name))), NETS[name][1])


class Overlapping(torch.nn.Module):
    """Reads overlapping windows by their strides, where a tangent's elements would lie elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2 = torch.nn.BatchNorm1d(6), torch.nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.bn1(x))
        windows = x.as_strided((len(x), 3, 4), (6, 1, 1)).prod(1)
        return torch.tanh(self.bn2(windows))


def test_strides_that_move_elements_go_to_double_backward() -> None:
    found = compared(nets.make(Overlapping), torch.randn(6, 6))
    assert (found.layers, found.compared, found.swept) == (2, 2, 1)
    assert found.notes[0] == "curvature, bn1: not swept: as_strided has no rule"


@pytest.mark.parametrize("way", [Way("scripted"), Way("traced")], ids=str)
def test_torchscript_attention(way: Way, tmp_path: Path) -> None:
    net, x = made("attention")
    write(way, net, x, tmp_path / "net.pt")
    assert_agrees(compared(tmp_path / "net.pt", x), NETS["attention"][1])


@pytest.mark.parametrize(
    ("name", "side", "layers", "count"),
    [("light_shufflenet", 224, "*3_0_bn", 2), ("light_inception_v2", 64, "conv*", 3)],
)
def test_onnx_files_with_random_weights(
    name: str, side: int, layers: str, count: int, tmp_path: Path
) -> None:
    """From the first layers on the way leads past everything that the network is made of."""
    x = torch.randn(
        2 if side < 100 else 1, 3, side, side, generator=torch.Generator().manual_seed(7)
    )
    assert_agrees(compared(light(name, tmp_path), x, layers=layers), count)


def test_a_wrong_second_derivative_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slope is off where only a second derivative is: nothing but this comparison finds it."""
    monkeypatch.setattr(
        "bnaudit.measure.sweep.pointwise.bend",
        lambda step, slope, curvature: bend(step, slope, 1.01 * curvature),
    )
    found = compared(*made("squeeze_excite"))
    assert found.swept == NETS["squeeze_excite"][1]
    assert found.residual <= 1e-12
    assert all(d >= 1e-4 for d in found.differences.values())


def test_the_document_shows_agreement() -> None:
    table = blocks(DOCUMENT.read_text(encoding="utf-8"))["second_order_agreement"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) >= 40
    for network, form, layers, swept, *numbers in rows:
        assert layers == swept, (network, form)
        assert all(float(number) <= TOLERANCE for number in numbers), (network, form)
