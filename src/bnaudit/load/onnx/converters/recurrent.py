"""RNN, LSTM and GRU, on torch's own cells where those mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_ACTIVATIONS = {
    "LSTM": [["Sigmoid", "Tanh", "Tanh"]],
    "GRU": [["Sigmoid", "Tanh"]],
    "RNN": [["Tanh"], ["Relu"]],
}
_CELLS: dict[str, type[nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class EarlyResetGru(nn.GRU):
    """A GRU that resets the state before its product with the weights, ONNX's default.

    torch's resets after it:  n = tanh(W x + b + r * (R h + c))  instead of  tanh(W x + b + R (r * h) + c).
    """

    def forward(self, x: Any, state: torch.Tensor | None = None) -> tuple[Any, torch.Tensor]:
        """As nn.GRU does, for sequences of one length."""
        if not isinstance(x, torch.Tensor):
            raise NotImplementedError("sequence_lens with linear_before_reset=0 is not supported")
        directions = 2 if self.bidirectional else 1
        start = x.new_zeros(directions, x.shape[1], self.hidden_size) if state is None else state
        runs = [self._direction(x, start[d], d) for d in range(directions)]
        return torch.cat([y for y, _ in runs], 2), torch.stack([last for _, last in runs])

    def _direction(
        self, x: torch.Tensor, h: torch.Tensor, direction: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        suffix = "_l0_reverse" if direction else "_l0"
        weights, recurrence = (getattr(self, f"weight_{k}{suffix}") for k in ("ih", "hh"))
        biases = [getattr(self, f"bias_{k}{suffix}", None) for k in ("ih", "hh")]
        gates = functional.linear(x, weights, biases[0])
        gate_rows, new_rows = recurrence.split([2 * self.hidden_size, self.hidden_size])
        gate_bias, new_bias = (
            (None, None)
            if biases[1] is None
            else biases[1].split([2 * self.hidden_size, self.hidden_size])
        )
        outputs = []
        for step in reversed(gates.unbind()) if direction else gates.unbind():
            both, new = step.split([2 * self.hidden_size, self.hidden_size], 1)
            r, z = torch.sigmoid(both + functional.linear(h, gate_rows, gate_bias)).chunk(2, 1)
            n = torch.tanh(new + functional.linear(r * h, new_rows, new_bias))
            h = (1 - z) * n + z * h
            outputs.append(h)
        return torch.stack(outputs[::-1] if direction else outputs), h


class Recurrent(nn.Module):
    """A one-layer recurrent network with ONNX's layout of inputs and outputs."""

    def __init__(self, cell: nn.RNNBase, directions: int, *, reverse: bool) -> None:
        super().__init__()
        self.cell = cell
        self.directions = directions
        self.reverse = reverse

    def forward(
        self,
        x: torch.Tensor,
        lengths: torch.Tensor | None = None,
        initial_h: torch.Tensor | None = None,
        initial_c: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """All outputs as (length, directions, batch, hidden), then the final states."""
        length, batch = x.shape[:2]
        ragged = lengths is not None and bool((lengths != length).any())
        if ragged and self.reverse:
            raise NotImplementedError("direction=reverse with different sequence_lens")
        fed: Any = x.flip(0) if self.reverse else x
        if ragged:
            assert lengths is not None  # noqa: S101 - what ragged says, for the type checker
            fed = pack_padded_sequence(fed, lengths.cpu().long(), enforce_sorted=False)
        y, finals = self.cell(fed, self._start(x, initial_h, initial_c))
        if ragged:
            y, _ = pad_packed_sequence(y, total_length=length)
        split = y.reshape(length, batch, self.directions, -1).transpose(1, 2)
        split = split.flip(0) if self.reverse else split
        return (split, *(finals if isinstance(finals, tuple) else (finals,)))

    def _start(self, x: torch.Tensor, *given: torch.Tensor | None) -> Any:
        batch, hidden = x.shape[1], self.cell.hidden_size
        h, c = (None if s is None else s.expand(-1, batch, -1).contiguous() for s in given)
        if not isinstance(self.cell, nn.LSTM) or (h is None and c is None):
            return h
        zeros = x.new_zeros(self.directions, batch, hidden)
        return (zeros if h is None else h), (zeros if c is None else c)


def recurrent(node: NodeProto, draft: Draft) -> Converted:
    """A recurrent layer with constant weights, in either direction or both."""
    values = options(node)
    w, r, b = (constant(draft, node, index) for index in (1, 2, 3))
    if w is None or r is None or (b is None and input_name(node, 3)):
        raise NotImplementedError("its weights are not constant")
    directions, hidden = w.shape[0], r.shape[2]
    _refuse(node, values, directions)
    kind, extra = _CELLS[node.op_type], dict[str, Any]()
    if node.op_type == "GRU" and not values.get("linear_before_reset", 0):
        kind = EarlyResetGru
    if node.op_type == "RNN":
        extra["nonlinearity"] = _activations(values)[0].lower() if _activations(values) else "tanh"
    with torch.device("meta"):  # no random weights: they would be replaced at once
        cell: Any = kind(
            w.shape[2], hidden, bidirectional=directions == 2, bias=b is not None, **extra
        )
    order = _GATES[node.op_type]
    for direction in range(directions):
        suffix = "_l0_reverse" if direction else "_l0"
        blocks = {"weight_ih": w[direction], "weight_hh": r[direction]}
        if b is not None:
            half = b.shape[1] // 2
            blocks |= {"bias_ih": b[direction, :half], "bias_hh": b[direction, half:]}
        for name, block in blocks.items():
            setattr(cell, name + suffix, parameter(_reordered(block, order)))
    module = Recurrent(cell, directions, reverse=values.get("direction") == "reverse")
    inputs = (node.input[0], *(input_name(node, index) for index in (4, 5, 6)))
    return Converted(module, inputs, tuple_always=True)


def _activations(values: dict[str, Any]) -> list[str]:
    return [a.decode() if isinstance(a, bytes) else a for a in values.get("activations", [])]


def _refuse(node: NodeProto, values: dict[str, Any], directions: int) -> None:
    given = _activations(values)
    usual = [one * directions for one in _ACTIVATIONS[node.op_type]]
    problems = {
        "layout=1": values.get("layout", 0) != 0,
        "clip": "clip" in values,
        f"activations {', '.join(given)}": bool(given) and given not in usual,
        "peepholes": bool(input_name(node, 7)),
        "input_forget": bool(values.get("input_forget", 0)),
    }
    for name, present in problems.items():
        if present:
            raise NotImplementedError(f"{name} is not supported")


def _reordered(block: NDArray[np.generic], order: tuple[int, ...]) -> NDArray[np.generic]:
    parts = np.split(block, len(order))
    return np.concatenate([parts[index] for index in order])
