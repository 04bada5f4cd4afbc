"""LSTM and GRU, on torch's own cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from bnaudit.load.onnx.converters.base import (
    Converted,
    constant,
    input_name,
    options,
    parameter,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

# Order of the gates' blocks of rows: ONNX's iofc and zrh, as torch's ifgo and rzn need them.
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
_SUPPORTED_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


class Recurrent(nn.Module):
    """A one-layer recurrent network with ONNX's layout of inputs and outputs."""

    def __init__(self, cell: nn.LSTM | nn.GRU, directions: int) -> None:
        super().__init__()
        self.cell = cell
        self.directions = directions

    def forward(
        self,
        x: torch.Tensor,
        initial_h: torch.Tensor | None = None,
        initial_c: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """All outputs as (length, directions, batch, hidden), then the final states."""
        length, batch = x.shape[:2]
        states = [
            None if state is None else state.expand(-1, batch, -1).contiguous()
            for state in (initial_h, initial_c)
        ]
        if isinstance(self.cell, nn.GRU):
            y, last = self.cell(x, states[0])
            finals = (last,)
        else:
            start = None if states[0] is None and states[1] is None else self._both(x, states)
            y, finals = self.cell(x, start)
        split = y.reshape(length, batch, self.directions, -1).transpose(1, 2)
        return (split, *finals)

    def _both(self, x: torch.Tensor, states: list[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
        zeros = x.new_zeros(self.directions, x.shape[1], self.cell.hidden_size)
        return tuple(zeros if state is None else state for state in states)


def recurrent(node: NodeProto, draft: Draft) -> Converted:
    """LSTM or GRU with constant weights, forward or bidirectional."""
    values = options(node)
    _refuse(node, values)
    w, r, b = (constant(draft, node, index) for index in (1, 2, 3))
    if w is None or r is None or (b is None and input_name(node, 3)):
        raise NotImplementedError("its weights are not constant")
    directions, hidden = w.shape[0], r.shape[2]
    kind = nn.LSTM if node.op_type == "LSTM" else nn.GRU
    with torch.device("meta"):  # no random weights: they would be replaced at once
        cell = kind(w.shape[2], hidden, bidirectional=directions == 2, bias=b is not None)
    order = _GATES[node.op_type]
    for direction in range(directions):
        suffix = "_l0_reverse" if direction else "_l0"
        blocks = {"weight_ih": w[direction], "weight_hh": r[direction]}
        if b is not None:
            half = b.shape[1] // 2
            blocks |= {"bias_ih": b[direction, :half], "bias_hh": b[direction, half:]}
        for name, block in blocks.items():
            setattr(cell, name + suffix, parameter(_reordered(block, order)))
    states = [input_name(node, 5), input_name(node, 6)]
    return Converted(Recurrent(cell, directions), (node.input[0], *states), tuple_always=True)


def _refuse(node: NodeProto, values: dict[str, object]) -> None:
    wanted = _SUPPORTED_ACTIVATIONS[node.op_type]
    given = [a.decode() if isinstance(a, bytes) else a for a in values.get("activations", [])]  # type: ignore[attr-defined]
    problems = {
        "direction=reverse": values.get("direction", "forward") == "reverse",
        "layout=1": values.get("layout", 0) != 0,
        "clip": "clip" in values,
        "activations other than the default": bool(given) and given[: len(wanted)] != wanted,
        "peepholes": bool(input_name(node, 7)),
        "sequence_lens": bool(input_name(node, 4)),
        "input_forget": bool(values.get("input_forget", 0)),
        "linear_before_reset=0": node.op_type == "GRU" and not values.get("linear_before_reset", 0),
    }
    for name, present in problems.items():
        if present:
            raise NotImplementedError(f"{name} is not supported")


def _reordered(block: NDArray[np.generic], order: tuple[int, ...]) -> NDArray[np.generic]:
    parts = np.split(block, len(order))
    return np.concatenate([parts[index] for index in order])
