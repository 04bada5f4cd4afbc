"""Networks of sequences, clips, points and tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.reshapes.parts import EPS, Net, conv


def head_pooling() -> Net:
    """Speaker embeddings: each head pools the sequence by weights of its own."""

    def forward(net: Net, x: Tensor) -> Any:
        x = functional.relu(net.bn1(net.stem(x)))
        b, c, length = x.shape
        y = x.view(b, 4, c // 4, length)
        w = torch.softmax(net.scores(x).view(b, 4, 1, length), -1)
        mean = (y * w).sum(-1)
        std = ((y - mean.unsqueeze(-1)).square() * w).sum(-1).clamp(min=EPS).sqrt()
        return net.bn2(torch.cat((mean, std), 2).view(b, -1))

    return Net(
        forward,
        stem=nn.Conv1d(4, 8, 3, padding=1),
        bn1=nn.BatchNorm1d(8),
        scores=nn.Conv1d(8, 4, 1, groups=4),
        bn2=nn.BatchNorm1d(16),
    )


def _recurrent(cell: Any, *, first: bool, both: bool) -> Net:
    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x))
        x = net.cell(x.permute(0, 2, 1) if first else x.permute(2, 0, 1))[0]
        x = x.permute(0, 2, 1) if first else x.permute(1, 2, 0)
        return net.bn2(x).mean(-1)

    return Net(
        forward,
        stem=nn.Conv1d(4, 6, 3, padding=1),
        bn1=nn.BatchNorm1d(6),
        cell=cell(6, 5, batch_first=first, bidirectional=both),
        bn2=nn.BatchNorm1d(10 if both else 5),
    )


def lstm() -> Net:
    """The batch in front."""
    return _recurrent(nn.LSTM, first=True, both=False)


def lstm_both_ways() -> Net:
    """The length in front, both directions."""
    return _recurrent(nn.LSTM, first=False, both=True)


def gru() -> Net:
    """The batch in front, both directions."""
    return _recurrent(nn.GRU, first=True, both=True)


def gru_rows() -> Net:
    """Text recognition: columns are steps, BatchNorm and classes over rows of length times batch."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x))
        x = x.mean(2).permute(2, 0, 1)
        x, last = net.cell(x)
        length, b, c = x.shape
        y = net.bn2(x.reshape(length * b, c))
        return net.head(y).view(length, b, -1).mean(0) + last[0]

    return Net(
        forward,
        stem=conv(3, 6),
        bn1=nn.BatchNorm2d(6),
        cell=nn.GRU(6, 5),
        bn2=nn.BatchNorm1d(5),
        head=nn.Linear(5, 5),
    )


def lstm_state() -> Net:
    """A first state that is given: zeros of the batch's size, and a cell that is learned."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).permute(0, 2, 1)
        h = torch.zeros(1, x.shape[0], 5, dtype=x.dtype, device=x.device)
        c = net.start.expand(1, x.shape[0], 5).contiguous()
        return net.bn2(net.cell(x, (h, c))[0].permute(0, 2, 1)).mean(-1)

    return Net(
        forward,
        stem=nn.Conv1d(4, 6, 3, padding=1),
        bn1=nn.BatchNorm1d(6),
        cell=nn.LSTM(6, 5, batch_first=True),
        start=torch.randn(1, 1, 5),
        bn2=nn.BatchNorm1d(5),
    )


def time_distributed() -> Net:
    """Frames folded into the batch, and out again, each averaged over its clip."""

    def forward(net: Net, x: Tensor) -> Any:
        b, t = x.shape[:2]
        y = functional.relu(net.bn1(net.stem(x.reshape(b * t, *x.shape[2:])))).mean((2, 3))
        y = net.bn2(net.head(y))
        return y.view(b, t, -1).mean(1)

    return Net(
        forward,
        stem=conv(2, 8),
        bn1=nn.BatchNorm2d(8),
        head=nn.Linear(8, 6),
        bn2=nn.BatchNorm1d(6),
    )


def temporal_shift() -> Net:
    """TSM: channels move between frames while the batch is (B*T, ...)."""

    def forward(net: Net, x: Tensor) -> Any:
        b, t, c, h, w = x.shape
        x = functional.relu(net.bn1(net.stem(x.view(-1, c, h, w))))
        y = x.view(b, t, 8, h, w)
        back, forth, rest = y[:, 1:, :2], y[:, :-1, 2:4], y[:, :, 4:]
        back = torch.cat((back, torch.zeros_like(back[:, :1])), 1)
        forth = torch.cat((torch.zeros_like(forth[:, :1]), forth), 1)
        y = torch.cat((back, forth, rest), 2)
        y = functional.relu(net.bn2(net.last(y.reshape(b * t, 8, h, w))))
        return y.mean((2, 3)).view(b, t, 8).mean(1)

    return Net(
        forward, stem=conv(2, 8), bn1=nn.BatchNorm2d(8), last=conv(8, 8), bn2=nn.BatchNorm2d(8)
    )


def time_in_front() -> Net:
    """Frames folded in front of the batch: rows of time times batch."""

    def forward(net: Net, x: Tensor) -> Any:
        b, t = x.shape[:2]
        y = x.transpose(0, 1).reshape(t * b, *x.shape[2:])
        y = functional.relu(net.bn1(net.stem(y))).mean((2, 3))
        y = net.bn2(net.head(y)).view(t, b, 6)
        return torch.tanh(y[0]) + y[1] * y[2]

    return Net(
        forward,
        stem=conv(2, 8),
        bn1=nn.BatchNorm2d(8),
        head=nn.Linear(8, 6),
        bn2=nn.BatchNorm1d(6),
    )


def point_net() -> Net:
    """A transform of each sample's points that the network computes, added to the identity."""

    def forward(net: Net, x: Tensor) -> Any:
        y = functional.relu(net.bn1(net.stem(x))).max(2)[0].view(-1, 8)
        eye = torch.eye(4, dtype=x.dtype).view(1, 16).repeat(x.shape[0], 1)
        t = (net.transform(y) + eye).view(-1, 4, 4)
        x = torch.bmm(x.transpose(2, 1), t).transpose(2, 1)
        return net.bn2(net.last(x)).max(2)[0]

    return Net(
        forward,
        stem=nn.Conv1d(4, 8, 1),
        bn1=nn.BatchNorm1d(8),
        transform=nn.Linear(8, 16),
        last=nn.Conv1d(4, 8, 1),
        bn2=nn.BatchNorm1d(8),
    )


def edge_features() -> Net:
    """DGCNN: each point beside its differences to the others, repeated and transposed."""

    def forward(net: Net, x: Tensor) -> Any:
        b, c, n = x.shape
        x = x.transpose(1, 2)
        near = x.view(b, 1, n, c).repeat(1, n, 1, 1)
        own = x.view(b, n, 1, c).expand(b, n, n, c)
        y = torch.cat((near - own, own), 3).permute(0, 3, 1, 2).contiguous()
        y = functional.leaky_relu(net.bn1(net.stem(y)), 0.25).max(-1)[0]
        return net.bn2(net.last(y)).mean(-1)

    return Net(
        forward,
        stem=nn.Conv2d(8, 8, 1, bias=False),
        bn1=nn.BatchNorm2d(8),
        last=nn.Conv1d(8, 6, 1),
        bn2=nn.BatchNorm1d(6),
    )


def mixer() -> Net:
    """MLP-Mixer: tokens and channels mixed in turn, with BatchNorm over tokens."""

    def forward(net: Net, x: Tensor) -> Any:
        x = net.bn1(net.stem(x)).flatten(2)
        x = x + net.tokens(x)
        x = x.transpose(1, 2)
        x = net.bn2(x + net.channels(x))
        return x.reshape(x.shape[0], -1)

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 2, 2, bias=False),
        bn1=nn.BatchNorm2d(8),
        tokens=nn.Linear(16, 16),
        channels=nn.Linear(8, 8),
        bn2=nn.BatchNorm1d(16),
    )


def factorised() -> Net:
    """Tabular: features in pairs, their products, flattened."""

    def forward(net: Net, x: Tensor) -> Any:
        y = functional.relu(net.bn1(net.stem(x))).view(-1, 4, 4)
        products = (y.unsqueeze(1) * y.unsqueeze(2)).sum(-1).view(x.size(0), 16)
        return net.bn2(net.last(torch.cat((products, y.flatten(1)), 1)))

    return Net(
        forward,
        stem=nn.Linear(12, 16),
        bn1=nn.BatchNorm1d(16),
        last=nn.Linear(32, 6),
        bn2=nn.BatchNorm1d(6),
    )
