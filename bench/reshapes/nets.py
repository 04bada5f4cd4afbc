"""Small networks, each with one way of reshaping that people's networks have, and BatchNorm around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.reshapes import attention, images, sequences
from bench.reshapes.parts import CLIP, IMAGE, SEQUENCE, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.reshapes.parts import Net


NETWORKS: dict[str, tuple[Callable[[], Net], tuple[int, ...]]] = {
    "patches": (lambda: attention.patches(8), IMAGE),
    "patches, last size open": (lambda: attention.patches(-1), IMAGE),
    "windows": (attention.windows, IMAGE),
    "grid attention": (attention.grid_attention, IMAGE),
    "class token": (attention.class_token, IMAGE),
    "distilled tokens": (attention.distilled_tokens, IMAGE),
    "token labels": (attention.token_label, IMAGE),
    "pixel shuffle": (images.pixel_shuffle, IMAGE),
    "pixel unshuffle": (images.pixel_unshuffle, IMAGE),
    "space to depth": (images.space_to_depth, IMAGE),
    "channel shuffle": (images.channel_shuffle, IMAGE),
    "grouped channels": (images.grouped_channels, IMAGE),
    "constant one": (images.constant_one, IMAGE),
    "group statistics": (images.group_statistics, IMAGE),
    "group norm": (images.instance_group_norm, IMAGE),
    "squeeze and excite": (images.squeeze_excite, IMAGE),
    "split attention": (attention.split_attention, IMAGE),
    "non-local": (attention.non_local, IMAGE),
    "channel attention": (attention.channel_attention, IMAGE),
    "sequence-first attention": (attention.sequence_first_attention, SEQUENCE),
    "multi-head attention": (attention.multihead_attention, SEQUENCE),
    "queries": (attention.queries, IMAGE),
    "attention pool": (attention.attention_pool, IMAGE),
    "multi-head pooling": (sequences.head_pooling, SEQUENCE),
    "LSTM": (sequences.lstm, SEQUENCE),
    "LSTM both ways": (sequences.lstm_both_ways, SEQUENCE),
    "GRU": (sequences.gru, SEQUENCE),
    "GRU over rows": (sequences.gru_rows, IMAGE),
    "LSTM with a state": (sequences.lstm_state, SEQUENCE),
    "time distributed": (sequences.time_distributed, CLIP),
    "temporal shift": (sequences.temporal_shift, CLIP),
    "time in front": (sequences.time_in_front, CLIP),
    "einsum": (attention.einsum, IMAGE),
    "einsum, batch behind": (images.einsum_behind, IMAGE),
    "unfold and fold": (images.unfold_fold, IMAGE),
    "outlook": (attention.outlook, IMAGE),
    "mixer": (sequences.mixer, IMAGE),
    "zero and minus one": (images.zero_and_minus_one, IMAGE),
    "point net": (sequences.point_net, SEQUENCE),
    "edge features": (sequences.edge_features, SEQUENCE),
    "detection head": (images.detection_head, IMAGE),
    "coordinates": (images.coordinates, IMAGE),
    "factorised": (sequences.factorised, TABLE),
    "dynamic convolution": (images.dynamic_convolution, IMAGE),
    "rows together": (images.rows_together, IMAGE),
}


def made(name: str) -> tuple[Net, tuple[int, ...]]:
    """The network in float64 with running statistics of random data, and the shape of one row."""
    build, shape = NETWORKS[name]
    torch.manual_seed(sum(map(ord, name)))
    net = build().double().train()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.3)
        for _ in range(20):
            net(torch.randn(16, *shape, dtype=torch.float64))
    return net.eval(), shape
