"""Networks of images: shuffles, views, gates and grids, and two that cannot be lifted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.reshapes.parts import EPS, Net, conv, image_parts, imaged


def pixel_shuffle() -> Net:
    """Super-resolution: channels into the plane."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn2(functional.pixel_shuffle(functional.relu(net.bn1(net.stem(x))), 2))
        return functional.relu(x).mean((2, 3))

    return Net(forward, stem=conv(3, 16), bn1=nn.BatchNorm2d(16), bn2=nn.BatchNorm2d(4))


def pixel_unshuffle() -> Net:
    """The plane into channels."""

    def forward(net: Net, x: Tensor) -> Any:
        x = functional.pixel_unshuffle(functional.relu(net.bn1(net.stem(x))), 2)
        return functional.relu(net.bn2(net.last(x))).mean((2, 3))

    return Net(
        forward,
        stem=conv(3, 4),
        bn1=nn.BatchNorm2d(4),
        last=conv(16, 8),
        bn2=nn.BatchNorm2d(8),
    )


def space_to_depth() -> Net:
    """YOLOv2's passthrough, by views, the 1 x 1 of a block written out."""

    def middle(_: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        y = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous()
        y = y.view(b, 4 * c, h // 2, w // 2)
        y = y.view(1, -1, 4 * c, h // 2, w // 2)[0]
        return y[:, :c] + y[:, c : 2 * c] * y[:, 2 * c : 3 * c] + y[:, 3 * c :]

    return imaged(middle)


def channel_shuffle() -> Net:
    """ShuffleNet."""

    def middle(_: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)

    return imaged(middle)


def grouped_channels() -> Net:
    """ShuffleNet as Caffe2 and MXNet write it: (B*groups, ...) on the way, the batch never written."""

    def middle(_: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        x = x.reshape(-1, 2, c // 2, h * w).transpose(1, 2)
        return x.reshape(b, c, h, w)

    return imaged(middle)


def constant_one() -> Net:
    """A view with a literal 1 in front, which is no batch."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        y = x.reshape(1, b * c, h, w)
        y = functional.avg_pool2d(y, 3, 1, 1).reshape(b, c, h, w)
        return x + net.scale.view(1, -1, 1, 1) * y

    return imaged(middle, scale=torch.randn(8))


def group_statistics() -> Net:
    """GroupNorm written out, over a view (B, 2, -1)."""

    def middle(_: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        y = x.view(b, 2, -1)
        y = (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True, unbiased=False) + EPS).sqrt()
        return y.view(b, c, h, w)

    return imaged(middle)


def instance_group_norm() -> Net:
    """GroupNorm, which the exporter writes as an InstanceNorm between two reshapes."""
    return imaged(lambda net, x: net.norm(x), norm=nn.GroupNorm(4, 8))


def squeeze_excite() -> Net:
    """A gate from two linear layers, viewed back into an image."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, _, _ = x.shape
        gate = functional.adaptive_avg_pool2d(x, 1).view(b, c)
        gate = torch.sigmoid(net.up(functional.relu(net.bn3(net.down(gate))))).view(b, c, 1, 1)
        return x * gate.expand_as(x)

    return imaged(middle, down=nn.Linear(8, 4), bn3=nn.BatchNorm1d(4), up=nn.Linear(4, 8))


def einsum_behind() -> Net:
    """An einsum that moves the batch to the end, and one that brings it back."""

    def middle(net: Net, x: Tensor) -> Any:
        y = torch.einsum("bchw,cd->dhwb", x, net.mix)
        return torch.einsum("dhwb->bdhw", y) + x

    return imaged(middle, mix=torch.randn(8, 8) / 3)


def unfold_fold() -> Net:
    """Patches by unfold, a linear layer on each, and fold."""

    def middle(net: Net, x: Tensor) -> Any:
        y = functional.unfold(x, 2, stride=2).transpose(1, 2)
        y = net.mix(y).transpose(1, 2)
        return functional.fold(y, (8, 8), 2, stride=2)

    return imaged(middle, mix=nn.Linear(32, 32))


def zero_and_minus_one() -> Net:
    """Flatten, unflatten, and views that leave a size open at the front, the middle and the end."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).view(-1, 4, 2, 8, 8)
        x = x.view(x.shape[0], -1, 2, 64).transpose(1, 2).reshape(x.shape[0], 8, 8, -1)
        x = net.bn2(net.last(x)).flatten(2).unflatten(2, (4, -1)).sum(-1)
        return x.reshape(-1, 32)

    return Net(forward, **image_parts())


def detection_head() -> Net:
    """SSD: predictions of two scales as rows of boxes, one beside the other."""

    def forward(net: Net, x: Tensor) -> Any:
        x = functional.relu(net.bn1(net.stem(x)))
        y = functional.relu(net.bn2(net.last(functional.max_pool2d(x, 2))))
        boxes = [p.permute(0, 2, 3, 1).contiguous() for p in (net.a(x), net.b(y))]
        rows = torch.cat([p.view(p.size(0), -1, 6) for p in boxes], 1)
        classes = rows[..., :4].reshape(-1, 4).softmax(-1).view(x.shape[0], -1, 4)
        return torch.cat((classes, rows[..., 4:]), 2).flatten(1)

    return Net(
        forward,
        stem=conv(3, 8),
        bn1=nn.BatchNorm2d(8),
        last=conv(8, 8),
        bn2=nn.BatchNorm2d(8),
        a=nn.Conv2d(8, 12, 3, 2, 1),
        b=nn.Conv2d(8, 12, 3, 1, 1),
    )


def coordinates() -> Net:
    """CoordConv: planes of coordinates beside the picture, one for each row."""

    def middle(net: Net, x: Tensor) -> Any:
        b, _, h, w = x.shape
        line = torch.arange(w, dtype=x.dtype) / 8
        across = line.view(1, 1, 1, w).expand(b, 1, h, w)
        down = line.view(1, 1, h, 1).expand(b, 1, h, w)
        return net.mix(torch.cat((x, across, down), 1))

    return imaged(middle, mix=nn.Conv2d(10, 8, 1))


def dynamic_convolution() -> Net:
    """CondConv: a kernel for each row, all rows as groups of one convolution."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        mix = torch.softmax(net.route(x.mean((2, 3))), 1)
        kernel = (mix @ net.kernels.view(3, -1)).view(b * c, c, 3, 3)
        return functional.conv2d(x.reshape(1, b * c, h, w), kernel, padding=1, groups=b).view(
            b, c, h, w
        )

    return imaged(middle, route=nn.Linear(8, 3), kernels=torch.randn(3, 8, 8, 3, 3) / 5)


def rows_together() -> Net:
    """A network whose rows are not independent: each is centred by the mean of the batch."""
    return imaged(lambda _, x: x - x.mean(0, keepdim=True))
