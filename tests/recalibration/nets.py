"""A small network whose running statistics are those of nothing, and data with labels."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tests.nets import PreActivation, make

ROWS = 53  # no multiple of any batch size


class Two(nn.Module):
    """Two layers in a row, named as an author would."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def two() -> nn.Module:
    """With random gamma, beta and statistics, in eval mode."""
    net = make(Two)
    net.get_buffer("bn1.num_batches_tracked").fill_(7)
    return net


def pre_activation() -> nn.Module:
    """A skip connection around a layer."""
    return make(PreActivation)


def rows(count: int = ROWS, seed: int = 3) -> Tensor:
    """Inputs of uneven brightness: no two batches are alike."""
    draw = torch.Generator().manual_seed(seed)
    bright = torch.rand(count, 1, 1, 1, generator=draw) * 2
    return torch.randn(count, 1, 7, 7, generator=draw) * 0.5 + bright


def labels(net: nn.Module, x: Tensor) -> Tensor:
    """What the network itself says with the statistics of all rows: it is right when these are back."""
    good = copy.deepcopy(net)
    for name, (mean, var) in reference(net, x).items():
        layer = good.get_submodule(name)
        layer.running_mean.copy_(mean)  # type: ignore[operator]
        layer.running_var.copy_(var)  # type: ignore[operator]
    with torch.no_grad():
        return good(x).argmax(1)


def reference(net: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Front to back by definition, in float64: all rows at once, one layer after the other."""
    plain = copy.deepcopy(net).double().eval()
    found = {}
    for name, layer in plain.named_modules():
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        seen: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            plain(x.double())
        hook.remove()
        values = seen[0].transpose(0, 1).flatten(1)
        found[name] = values.mean(1), values.var(1, correction=1)
        layer.running_mean.copy_(found[name][0])  # type: ignore[union-attr]
        layer.running_var.copy_(found[name][1])  # type: ignore[union-attr]
    return found
