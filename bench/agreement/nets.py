"""The networks, seeded, with a batch of random images."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from bench.vision.nets import build

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 2
SIDE = 64
_SIDES = {"inception_v3": 128}  # one position is left at 96: two values per channel


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015) with BatchNorm: transposed convolutions, concatenated skips."""

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 16, 32, 64)
        ins = (3, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(_conv(i, o), _conv(o, o)) for i, o in zip(ins, widths, strict=True)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.join = nn.ModuleList(
            nn.Sequential(_conv(2 * w, w), _conv(w, w)) for w in widths[-2::-1]
        )
        self.classify = nn.Conv2d(widths[0], 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W)."""
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for i, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            x = join(torch.cat([up(x), skips[len(skips) - 2 - i]], 1))
        found: Tensor = self.classify(x)
        return found


class _Mixer(nn.Module):
    """Self-attention over positions between BatchNorms, then a convolutional feed-forward part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.grow = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(2 * width)
        self.shrink = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        rows = self.norm1(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(rows).view(n, h * w, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        x = x + self.merge(y).transpose(1, 2).reshape(n, c, h, w)
        found: Tensor = x + self.shrink(functional.gelu(self.norm3(self.grow(self.norm2(x)))))
        return found


class Attention(nn.Module):
    """A convolutional stem, two blocks of attention, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 4, 4, bias=False),
            nn.BatchNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, 32, 2, 2, bias=False),
            nn.BatchNorm2d(32),
        )
        self.blocks = nn.Sequential(_Mixer(32), _Mixer(32))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 10)."""
        x = self.blocks(self.stem(x))
        found: Tensor = self.head(self.norm(x.mean((2, 3))))
        return found


_OWN: dict[str, Callable[[], nn.Module]] = {"unet": UNet, "attention": Attention}


def is_available(name: str) -> bool:
    """Whether a network can be built here: those of torchvision need it."""
    own = name in _OWN or name.startswith("light_")
    return own or importlib.util.find_spec("torchvision") is not None


def network(name: str) -> tuple[nn.Module, Tensor]:
    """The network in eval mode, float32, and its batch.

    gamma and beta are drawn around 1 and 0: at their initial values, channels would be alike.
    """
    torch.manual_seed(0)
    net = _OWN[name]() if name in _OWN else build(name)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    side = _SIDES.get(name, SIDE)
    return net.eval(), torch.randn(ROWS, 3, side, side)
