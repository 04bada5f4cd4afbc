"""Networks with trained-looking statistics, and the ways in which people write them to ONNX."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import onnxruntime
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRAINING = torch.onnx.TrainingMode


class Residual(nn.Module):
    """conv1, norm1, a block whose second norm feeds a sum, and a linear head."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = norm(8)
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 1)
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.fc((x + self.block(x)).mean((2, 3)))
        return out


class PreActivation(nn.Module):
    """One BatchNorm behind a convolution, two behind sums: what densely connected networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(8)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn0(self.stem(x)))
        x = x + self.conv1(torch.relu(self.bn1(x)))
        out: Tensor = x + self.conv2(torch.relu(self.bn2(x)))
        return out


class Frozen(nn.Module):
    """FrozenBatchNorm2d of detection networks."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(channels)
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels, generator=draw) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        scale = self.weight.reshape(shape) * (self.running_var.reshape(shape) + 1e-5).rsqrt()
        return x * scale + (self.bias.reshape(shape) - self.running_mean.reshape(shape) * scale)


class Plain(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=bias)
        self.conv2 = nn.Conv2d(8, 4, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.norm(self.a(x))))
        return out


class Standardised(nn.Conv2d):
    """Weight standardisation, written with batch_norm as many do."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        scale = torch.full((self.out_channels,), 0.3)
        weight = nn.functional.batch_norm(flat, None, None, scale, training=True, momentum=0.0)
        return nn.functional.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def upsampler() -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(3, 6, 2, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )


def trained(net: nn.Module) -> nn.Module:
    """Parameters as training leaves them: equal ones would be stored once for all layers."""
    draw = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                if tensor.is_floating_point():
                    low = 0.5 if name in {"weight", "running_var"} else -1.0
                    tensor.data.uniform_(low, 1.5, generator=draw)
    return net.eval()


def images(net: nn.Module) -> Tensor:
    """An input that the network takes."""
    draw = torch.Generator().manual_seed(1)
    first = next(
        m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    )
    shape = (2, 8) if isinstance(first, nn.Linear) else (2, 3, 8, 8)
    return torch.randn(shape, generator=draw)


DYNAMO: dict[str, Any] = {"dynamo": True, "external_data": False}
TORCHSCRIPT: dict[str, Any] = {"dynamo": False}


def export(net: nn.Module, path: Path, **options: Any) -> Path:
    """torch.onnx.export without its chatter."""
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    logging.disable(logging.CRITICAL)
    try:
        with quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (images(net),), str(path), **options)
    finally:
        logging.disable(logging.NOTSET)
    return path


def optimised(source: Path, target: Path, level: str, without: list[str] | None = None) -> Path:
    """The file that ONNX Runtime writes of what it runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(target)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    onnxruntime.InferenceSession(
        str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=without or []
    )
    return target
