"""One BatchNorm, or one that is called twice, behind each kind of layer, in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

PATTERNS = (
    "conv",
    "grouped",
    "depthwise",
    "transposed",
    "linear",
    "MatMul",
    "pre-activation",
    "shared",
)


class _Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.weight)


class _Shared(nn.Module):
    """One layer behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(4, 8, 3, bias=False), nn.Conv2d(8, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.c2(torch.relu(self.bn(self.c1(x))))))


def network(pattern: str) -> tuple[nn.Module, Tensor]:
    """A network in eval mode with statistics that data might have given, and an input of it."""
    torch.manual_seed(0)
    layers: dict[str, list[nn.Module]] = {
        "conv": [nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
        "grouped": [nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
        "depthwise": [nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU()],
        "transposed": [nn.ConvTranspose2d(4, 8, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
        "linear": [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()],
        "MatMul": [_Product(), nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU()],
        "pre-activation": [nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3)],
        "shared": [_Shared()],
    }
    # A last layer of its own name, beside which a trace can tell what was computed from what was left alone.
    flat, out = pattern in {"linear", "MatMul"}, 4 if pattern == "depthwise" else 8
    last = nn.Linear(out, 2) if flat else nn.Conv2d(out, 2, 1)
    net = nn.Sequential(*layers[pattern], last)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for name, tensor in module.state_dict().items():
                if name in {"weight", "running_var"}:
                    nn.init.uniform_(tensor, 0.5, 1.5)
                elif tensor.is_floating_point():
                    nn.init.normal_(tensor)
    rows = torch.randn(2, 4) if flat else torch.randn(2, 4, 8, 8)
    return net.eval(), rows


def export(pattern: str, path: Path, how: str) -> None:
    """By one of PyTorch's exporters: "dynamo", "torchscript", or either with what bnaudit advises."""
    net, x = network(pattern)
    options: dict[str, object] = {
        "dynamo": {"dynamo": True},
        "dynamo, as advised": {"dynamo": True, "optimize": False},
        "torchscript": {"dynamo": False},
        "torchscript, as advised": {
            "dynamo": False,
            "training": torch.onnx.TrainingMode.PRESERVE,
        },
    }[how]  # type: ignore[assignment]
    torch.onnx.export(net, (x,), str(path), verbose=False, **options)  # type: ignore[arg-type]
