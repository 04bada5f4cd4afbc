"""Networks that attend: over patches, windows, grids, channels, tokens and queries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.reshapes.parts import Net, attended, imaged


def patches(last: int) -> Net:
    """MobileViT: pixels of equal position in their patches attend to each other."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        n, p = h * w // 4, 4
        x = x.reshape(b * c * h // 2, 2, w // 2, 2).transpose(1, 2).reshape(b, c, n, p)
        x = x.transpose(1, 3).reshape(b * p, n, c)
        x = x + torch.softmax(net.mix(x), 1)
        x = x.view(b, p, n, last).transpose(1, 3).reshape(b * c * h // 2, w // 2, 2, 2)
        return x.transpose(1, 2).reshape(b, c, h, w)

    return imaged(middle, mix=nn.Linear(8, 8))


def windows() -> Net:
    """Swin: windows of 4 x 4 attend within themselves, those of a shifted image behind a mask."""
    mask = torch.zeros(4, 16, 16)
    mask[1, :, 8:] = mask[3, :8, 8:] = -3.0

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).roll((-2, -2), (1, 2))
        x = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        qkv = net.qkv(x).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1) * 0.5
        scores = scores.view(b, 4, 2, 16, 16) + net.mask.unsqueeze(1).unsqueeze(0)
        scores = scores.view(-1, 2, 16, 16).softmax(-1)
        x = (scores @ v).transpose(1, 2).reshape(-1, 16, c)
        x = x.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return x.roll((2, 2), (1, 2)).permute(0, 3, 1, 2)

    return imaged(middle, qkv=nn.Linear(8, 24), mask=mask)


def grid_attention() -> Net:
    """MaxViT: sparse grids instead of windows."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        x = x.reshape(b, c, 4, h // 4, 4, w // 4).permute(0, 3, 5, 2, 4, 1)
        x = x.reshape(b, (h // 4) * (w // 4), 16, c)
        q, k, v = net.qkv(x).chunk(3, -1)
        x = x + attended(q, k, v)
        x = x.reshape(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 3, 1, 4, 2)
        return x.reshape(b, c, h, w)

    return imaged(middle, qkv=nn.Linear(8, 24))


def class_token() -> Net:
    """ViT: a token that is the same for all rows, expanded to as many as there are."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).flatten(2).transpose(1, 2)
        x = torch.cat((net.token.expand(x.shape[0], -1, -1), x), 1) + net.position
        x = x + net.attention(x, x, x, need_weights=False)[0]
        return net.bn2(net.head(x[:, 0]))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 4, 4, bias=False),
        bn1=nn.BatchNorm2d(8),
        token=torch.randn(1, 1, 8),
        position=0.5 * torch.randn(1, 5, 8),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
        head=nn.Linear(8, 6),
        bn2=nn.BatchNorm1d(6),
    )


def distilled_tokens() -> Net:
    """DeiT: two tokens, repeated."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).flatten(2).permute(0, 2, 1)
        tokens = torch.cat((net.a, net.b), 1).repeat(x.shape[0], 1, 1)
        x = torch.cat((tokens, x), 1)
        q, k, v = net.qkv(x).view(x.shape[0], -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + attended(q, k, v).transpose(1, 2).flatten(2)
        return net.bn2(net.head(x[:, 0] + x[:, 1]))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 4, 4, bias=False),
        bn1=nn.BatchNorm2d(8),
        a=torch.randn(1, 1, 8),
        b=torch.randn(1, 1, 8),
        qkv=nn.Linear(8, 24),
        head=nn.Linear(8, 6),
        bn2=nn.BatchNorm1d(6),
    )


def token_label() -> Net:
    """A class from each position beside that of the whole, with BatchNorm over rows of positions."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x))
        b, c, h, w = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, c)
        each = net.bn2(net.head(rows)).view(b, h * w, -1)
        return torch.cat((net.whole(x.mean((2, 3))).unsqueeze(1), each), 1).flatten(1)

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 4, 4, bias=False),
        bn1=nn.BatchNorm2d(8),
        head=nn.Linear(8, 5),
        bn2=nn.BatchNorm1d(5),
        whole=nn.Linear(8, 5),
    )


def non_local() -> Net:
    """Positions attend to each other: theta, phi and g."""

    def middle(net: Net, x: Tensor) -> Any:
        b, _, h, w = x.shape
        theta = net.theta(x).view(b, 4, -1).permute(0, 2, 1)
        phi, g = net.phi(x).view(b, 4, -1), net.g(x).view(b, 4, -1).permute(0, 2, 1)
        y = torch.matmul(functional.softmax(torch.matmul(theta, phi), -1), g)
        y = y.permute(0, 2, 1).contiguous().view(b, 4, h, w)
        return x + net.bn3(net.out(y))

    return imaged(
        middle,
        theta=nn.Conv2d(8, 4, 1),
        phi=nn.Conv2d(8, 4, 1),
        g=nn.Conv2d(8, 4, 1),
        out=nn.Conv2d(4, 8, 1),
        bn3=nn.BatchNorm2d(8),
    )


def channel_attention() -> Net:
    """XCiT and DANet: the channels attend to each other."""

    def middle(_: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        y = x.view(b, c, -1)
        scores = torch.bmm(y, y.transpose(1, 2)) / (h * w)
        return x + torch.bmm(scores.softmax(-1), y).view(b, c, h, w)

    return imaged(middle)


def sequence_first_attention() -> Net:
    """Torch's attention with the length in front: (L, B, C), heads as (L, B*heads, d)."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).permute(2, 0, 1)
        length, b, c = x.shape
        q, k, v = (
            part.reshape(length, b * 2, c // 2).transpose(0, 1) for part in net.qkv(x).chunk(3, -1)
        )
        y = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
        x = x + y.transpose(0, 1).reshape(length, b, c)
        return net.bn2(x.permute(1, 2, 0)).mean(-1)

    return Net(
        forward,
        stem=nn.Conv1d(4, 8, 3, padding=1),
        bn1=nn.BatchNorm1d(8),
        qkv=nn.Linear(8, 24),
        bn2=nn.BatchNorm1d(8),
    )


def multihead_attention() -> Net:
    """Torch's own module, the length in front."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).permute(2, 0, 1)
        x = x + net.attention(x, x, x)[0]
        return net.bn2(x.permute(1, 2, 0)).mean(-1)

    return Net(
        forward,
        stem=nn.Conv1d(4, 8, 3, padding=1),
        bn1=nn.BatchNorm1d(8),
        attention=nn.MultiheadAttention(8, 2),
        bn2=nn.BatchNorm1d(8),
    )


def queries() -> Net:
    """DETR: learned queries, the same for each row, repeated along the second axis."""

    def forward(net: Net, x: Tensor) -> Any:
        memory = net.bn1(net.stem(x)).flatten(2).permute(2, 0, 1)
        q = net.query.unsqueeze(1).repeat(1, x.shape[0], 1)
        y = net.attention(q, memory, memory)[0]
        y = net.attention2(q + y, memory, memory)[0]
        return net.bn2(y.permute(1, 2, 0)).flatten(1)

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 2, 2, bias=False),
        bn1=nn.BatchNorm2d(8),
        query=torch.randn(3, 8),
        attention=nn.MultiheadAttention(8, 2),
        attention2=nn.MultiheadAttention(8, 2),
        bn2=nn.BatchNorm1d(8),
    )


def attention_pool() -> Net:
    """CLIP: the mean of all positions attends to them."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).flatten(2).permute(2, 0, 1)
        x = torch.cat((x.mean(0, keepdim=True), x), 0) + net.position[:, None, :]
        y = net.attention(x[:1], x, x, need_weights=False)[0]
        return net.bn2(y.squeeze(0))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 4, 4, bias=False),
        bn1=nn.BatchNorm2d(8),
        position=torch.randn(5, 8),
        attention=nn.MultiheadAttention(8, 2),
        bn2=nn.BatchNorm1d(8),
    )


def einsum() -> Net:
    """Attention by einsum, the heads between batch and length."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        q, k, v = net.qkv(x.flatten(2).transpose(1, 2)).view(b, h * w, 3, 2, c // 2).unbind(2)
        scores = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
        y = torch.einsum("bhij,bjhd->bihd", scores, v)
        return x + y.reshape(b, h * w, c).transpose(1, 2).reshape(b, c, h, w)

    return imaged(middle, qkv=nn.Linear(8, 24))


def outlook() -> Net:
    """VOLO and involution: each position weighs its neighbours by weights that it computes."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        weights = net.weigh(x).view(b, 2, 9, h, w).softmax(2).unsqueeze(2)
        y = functional.unfold(x, 3, padding=1).view(b, 2, c // 2, 9, h, w)
        return (y * weights).sum(3).view(b, c, h, w)

    return imaged(middle, weigh=nn.Conv2d(8, 18, 1))


def split_attention() -> Net:
    """ResNeSt: softmax over the splits, which are taken out of the channels."""

    def middle(net: Net, x: Tensor) -> Any:
        b, c, h, w = x.shape
        y = x.view(b, 2, c // 2, h, w)
        gap = y.sum(1).mean((2, 3), keepdim=True)
        weights = net.fc2(functional.relu(net.bn3(net.fc1(gap)))).view(b, 1, 2, -1).transpose(1, 2)
        weights = functional.softmax(weights, 1).reshape(b, -1).view(b, 2, c // 2, 1, 1)
        return torch.cat((y * weights, y), 2).flatten(1, 2)[:, :c] + x

    return imaged(middle, fc1=nn.Conv2d(4, 4, 1), bn3=nn.BatchNorm2d(4), fc2=nn.Conv2d(4, 8, 1))
