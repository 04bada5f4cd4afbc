"""What stands in front of a layer has one name in all formats, and a crop of a convolution is still its."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnaudit.inspection import inspect_file
from bnaudit.inspection.operators import keeps_channels, onnx_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.inspection import BatchNormStatics

# What is done to a convolution's result [2, 4, 4, 4] -> the name of its last operator.
NAMED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "permute": (lambda x: x.permute(0, 1, 3, 2), "Transpose"),
    "transpose": (lambda x: x.transpose(2, 3), "Transpose"),
    "view": (lambda x: x.reshape(x.shape[0], 4, -1, 1), "Reshape"),
    "relu": (torch.relu, "Relu"),
    "relu6": (F.relu6, "Clip"),
    "hardtanh": (F.hardtanh, "Clip"),
    "hardswish": (F.hardswish, "HardSwish"),
    "hardsigmoid": (F.hardsigmoid, "HardSigmoid"),
    "silu": (F.silu, "Silu"),
    "mish": (F.mish, "Mish"),
    "gelu": (F.gelu, "Gelu"),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), "Gelu"),
    "gate": (lambda x: x * x.tanh(), "Mul"),
    "rsub": (lambda x: 1 - x, "Sub"),
    "maximum": (lambda x: torch.maximum(x, x.tanh()), "Max"),
    "mean": (lambda x: x.mean((2,), keepdim=True), "ReduceMean"),
    "amax": (lambda x: x.amax(2, keepdim=True), "ReduceMax"),
    "max_pool": (lambda x: F.max_pool2d(x, 2), "MaxPool"),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 2), "AveragePool"),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2.0), "Resize"),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), "Resize"),
    "pad": (lambda x: F.pad(x, (1, 1, 1, 1)), "Pad"),
    "cat": (lambda x: torch.cat([x, x.tanh()], 2), "Concat"),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2), "DepthToSpace"),
    "repeat": (lambda x: x.repeat(1, 1, 2, 1), "Tile"),
    "topk": (lambda x: x.topk(2, 2)[0], "TopK"),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[-1:]), "LayerNormalization"),
    "same": (lambda x: x.to(torch.float64).to(torch.float32), "Conv"),
}
# What leaves positions of it out; the last two cut the channels, or mix positions.
CROPS: dict[str, Callable[[Tensor], Tensor]] = {
    "chomp": lambda x: x[:, :, :, :-1],
    "middle": lambda x: x[..., 1:-1, 1:-1],
    "every_second": lambda x: x[:, :, ::2, ::2],
    "narrow": lambda x: x.narrow(-1, 1, 2),
    "channels": lambda x: x[:, :4] if x.shape[1] == 4 else x[:, 1:5],
    "pool": lambda x: F.avg_pool2d(x, 2),
}


class Branches(nn.Module):
    """Each operator between a convolution and a BatchNorm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        names = [*NAMED, *CROPS]
        self.convs = nn.ModuleDict(
            {n: nn.Conv2d(3, 6 if n == "channels" else 4, 3, padding=1) for n in names}
        )
        self.norms = nn.ModuleDict({n: nn.BatchNorm2d(4) for n in names})

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.first(x)
        steps = {name: step for name, (step, _) in NAMED.items()} | CROPS
        return [self.norms[n](step(self.convs[n](x))) for n, step in steps.items()]


def onnx_torchscript(net: nn.Module, x: Tensor, path: Path) -> None:
    keep = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(net, (x,), str(path), dynamo=False, training=keep, opset_version=17)


def onnx_dynamo(net: nn.Module, x: Tensor, path: Path) -> None:
    torch.onnx.export(net, (x,), str(path), dynamo=True, optimize=False, verbose=False)


def traced(net: nn.Module, x: Tensor, path: Path) -> None:
    torch.jit.trace(net, x, check_trace=False).save(str(path))


def exported(net: nn.Module, x: Tensor, path: Path) -> None:
    torch.export.save(torch.export.export(net, (x,)), path)


@pytest.fixture(scope="module", params=[onnx_torchscript, onnx_dynamo, traced, exported])
def layers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, BatchNormStatics]:
    torch.manual_seed(0)
    net, x = Branches().eval(), torch.randn(2, 3, 4, 4)
    for module in net.norms.values():  # exporters store equal tensors once
        norm: Any = module
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    path = tmp_path_factory.mktemp("operators") / "net"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        request.param(net, x, path)
    return {b.name.removeprefix("norms."): b for b in inspect_file(path).batchnorms}


def test_one_operator_has_one_name(layers: dict[str, BatchNormStatics]) -> None:
    found = {name: layers[name].preceded_by for name in NAMED}
    assert found == {name: expected for name, (_, expected) in NAMED.items()}
    assert layers["first"].preceded_by == "input"
    fed = {name for name in NAMED if layers[name].feeder is not None}
    assert fed == {"same"}


def test_a_crop_of_positions_is_fed_by_the_convolution(
    layers: dict[str, BatchNormStatics],
) -> None:
    """The mean takes the bias away at the positions that are left; other crops are not one layer's."""
    fed = {n: layers[n].feeder for n in CROPS if layers[n].feeder is not None}
    assert set(fed) == {"chomp", "middle", "every_second", "narrow"}
    assert all(f is not None and f.operator == "Conv" and f.bias for f in fed.values())


def test_an_operator_written_in_place_has_the_name_of_the_plain_one() -> None:
    pairs = [
        ("relu_", "Relu"),
        ("aten.hardtanh_", "Clip"),
        ("native_layer_norm", "LayerNormalization"),
    ]
    assert [onnx_name(op) for op, _ in pairs] == [name for _, name in pairs]


@pytest.mark.parametrize(
    ("axes", "rank", "kept"),
    [
        ([], None, True),
        ([2, 3], None, True),
        ([1], 4, False),
        ([-1], 4, True),
        ([-3], 4, False),
        ([-1], 2, False),
        ([-1], None, False),
        ([0], None, True),
    ],
)
def test_channels_are_axis_1(axes: list[int], rank: int | None, kept: bool) -> None:
    assert keeps_channels(axes, rank) is kept
