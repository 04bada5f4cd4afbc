"""How much of the second order is wanted: each step costs about as much again as all before it."""

from __future__ import annotations

from enum import IntEnum


class Detail(IntEnum):
    """What a layer's record holds.

    Attributes:
        CURVATURE: g'Hx g and its two parts.
        BOUND: G'HzG and the bound with it besides.
        CHANNELS: all of it by channel.
    """

    CURVATURE = 0
    BOUND = 1
    CHANNELS = 2
