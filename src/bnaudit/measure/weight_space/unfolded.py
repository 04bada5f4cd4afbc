"""U, the linear map from the weights of one output channel to its values, and its adjoint.

A Linear or convolution without its bias is, for each output channel j, x_j = U w_j with the unfolded
(im2col) input U, (m, d): m values, d weights. All channels of a group share their U. It is never
formed: U w runs the layer itself with as many output channels as are asked for, U'y is the layer's
weight gradient.

    apply:   rows (groups * p, d)       ->  y (N, groups * p, ...)
    adjoint: y    (N, groups * p, ...)  ->  rows (groups * p, d)

Channels are ordered group by group, p of each; p is free, so one call serves the full layer
(p = outputs / groups) or a few probing vectors for all groups at once.

Limits: the padding of modes other than zeros is an operator of its own before the layer, and belongs to its
input here. A transposed convolution has (I, O / groups, k...) weights; d = I / groups * prod(k) all
the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Unfolded(Protocol):
    """U of every group of one layer on one batch."""

    @property
    def groups(self) -> int:
        """How many different U there are."""

    @property
    def size(self) -> int:
        """d, the weights of one output channel."""

    @property
    def dtype(self) -> torch.dtype:
        """What `apply` and `adjoint` compute in."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    def centred(self, y: Tensor) -> Tensor:
        """(I - 11'/m) y for every channel of y, the mean over the m values that U gives."""

    def apply(self, rows: Tensor) -> Tensor:
        """U w for every row w."""

    def adjoint(self, y: Tensor) -> Tensor:
        """U'y for every channel of y."""

    def rows(self, weight: Tensor) -> Tensor:
        """A tensor of the layer's weight's shape as one row an output channel."""


def computable(t: Tensor) -> Tensor:
    """Half-precision values in float32: probing vectors need more than three digits."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def _centred(y: Tensor) -> Tensor:
    dims = [d for d in range(y.dim()) if d != 1]
    return y - y.mean(dims, keepdim=True, dtype=torch.float64).to(y.dtype)


@dataclass(frozen=True, slots=True)
class Cropped:
    """A layer of which a crop leaves only some positions: U without the rows of the others.

    These rows stay as zeros, so that shapes are the layer's own.

    Attributes:
        whole: U of the layer.
        kept: (N, 1, ...), or (m, 1) of a product; the positions that are left.
    """

    whole: Unfolded
    kept: Tensor

    @property
    def groups(self) -> int:
        """See `Unfolded`."""
        return self.whole.groups

    @property
    def size(self) -> int:
        """See `Unfolded`."""
        return self.whole.size

    @property
    def dtype(self) -> torch.dtype:
        """See `Unfolded`."""
        return self.whole.dtype

    @property
    def device(self) -> torch.device:
        """See `Unfolded`."""
        return self.whole.device

    def centred(self, y: Tensor) -> Tensor:
        """See `Unfolded`."""
        y = y * self.kept
        dims = [d for d in range(y.dim()) if d != 1]
        total = y.sum(dims, keepdim=True, dtype=torch.float64)
        return y - (total / self.kept.sum()).to(y.dtype) * self.kept

    def apply(self, rows: Tensor) -> Tensor:
        """See `Unfolded`."""
        return self.whole.apply(rows) * self.kept

    def adjoint(self, y: Tensor) -> Tensor:
        """See `Unfolded`."""
        return self.whole.adjoint(y * self.kept)

    def rows(self, weight: Tensor) -> Tensor:
        """See `Unfolded`."""
        return self.whole.rows(weight)


@dataclass(frozen=True, slots=True)
class UnfoldedProduct:
    """A Linear layer: `inputs` is U itself.

    Attributes:
        inputs: (m, d).
        weight_first: the weight is (d, O), as the right factor of a product, not (O, d).
    """

    inputs: Tensor
    weight_first: bool = False

    @property
    def groups(self) -> int:
        """See `Unfolded`."""
        return 1

    @property
    def size(self) -> int:
        """See `Unfolded`."""
        return self.inputs.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """See `Unfolded`."""
        return self.inputs.dtype

    @property
    def device(self) -> torch.device:
        """See `Unfolded`."""
        return self.inputs.device

    def centred(self, y: Tensor) -> Tensor:
        """See `Unfolded`."""
        return _centred(y)

    def apply(self, rows: Tensor) -> Tensor:
        """See `Unfolded`."""
        return self.inputs @ rows.T

    def adjoint(self, y: Tensor) -> Tensor:
        """See `Unfolded`."""
        return y.T @ self.inputs

    def rows(self, weight: Tensor) -> Tensor:
        """See `Unfolded`."""
        matrix = weight.reshape(weight.shape[-2:])
        return matrix.T if self.weight_first else matrix


@dataclass(frozen=True, slots=True)
class UnfoldedConvolution:
    """A convolution of one to three dimensions, transposed or not.

    Attributes:
        inputs: (N, I, ...).
        kernel: the kernel's sizes.
        stride, padding, dilation, output_padding: one value a dimension.
        transposed: whether it is a transposed convolution.
        groups: of channels.
    """

    inputs: Tensor
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool
    groups: int

    @property
    def _fan(self) -> int:
        """Input channels that one output channel sees."""
        return self.inputs.shape[1] // self.groups

    @property
    def size(self) -> int:
        """See `Unfolded`."""
        return self._fan * math.prod(self.kernel)

    @property
    def dtype(self) -> torch.dtype:
        """See `Unfolded`."""
        return self.inputs.dtype

    @property
    def device(self) -> torch.device:
        """See `Unfolded`."""
        return self.inputs.device

    def centred(self, y: Tensor) -> Tensor:
        """See `Unfolded`."""
        return _centred(y)

    def apply(self, rows: Tensor) -> Tensor:
        """See `Unfolded`."""
        y: Tensor = torch.ops.aten.convolution.default(
            self.inputs,
            self._weight(rows),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """See `Unfolded`."""
        # The values of the weight do not matter to its gradient, only its shape.
        weight = self._weight(y.new_zeros(y.shape[1], self.size))
        _, gradient, _ = torch.ops.aten.convolution_backward.default(
            y,
            self.inputs,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            (False, True, False),
        )
        return self.rows(gradient)

    def rows(self, weight: Tensor) -> Tensor:
        """See `Unfolded`."""
        if not self.transposed:
            return weight.reshape(weight.shape[0], -1)
        width = weight.shape[1]
        parts = weight.reshape(self.groups, self._fan, width, -1).movedim(2, 1)
        return parts.reshape(self.groups * width, -1)

    def _weight(self, rows: Tensor) -> Tensor:
        """Rows as a weight: (C, I / groups, k...), or transposed (I, C / groups, k...)."""
        if not self.transposed:
            return rows.reshape(-1, self._fan, *self.kernel)
        width = rows.shape[0] // self.groups
        parts = rows.reshape(self.groups, width, self._fan, *self.kernel).movedim(1, 2)
        return parts.reshape(self.groups * self._fan, width, *self.kernel)
