"""Inputs that are places in a table: matched at what it gives, the first tensor with values between.

An embedding's output has a gradient G where its input has none. Row v of the table in place of row u at one
position changes the objective by <G, E_v - E_u> to the first order, whichever v: so of each position the best
row is known after one pass. Some positions are exchanged together, a quarter as many as before where that did
not help, twice as many where it did. The batch stays one of whole numbers that every format
takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.tap.dispatch import not_the_models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_AT_ONCE = 1 << 24
"""Numbers of a table of scores: positions times rows."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """One look into a table in a pass.

    Attributes:
        table: (V, D).
        index: as the model made them of its input.
        found: (*index.shape, D), a leaf.
    """

    table: Tensor
    index: Tensor
    found: Tensor


@dataclass(slots=True)
class Lookups:
    """Stands in for the operators that look into tables of floating-point numbers.

    Attributes:
        noting: whether calls are noted.
        made: since it was cleared.
    """

    noting: bool = False
    made: list[Lookup] = field(default_factory=list)

    def overrides(self) -> Mapping[str, Callable[..., Tensor]]:
        """For `tapped`."""
        return {
            "embedding": self.embedding,
            "index.Tensor": self.index,
            "index_select": self.select,
        }

    def embedding(self, table: Tensor, index: Tensor, *rest: Any) -> Tensor:
        """Stands in for `aten::embedding`."""
        del rest  # they are about gradients of the table
        return self._noted(table, index)

    def index(self, table: Tensor, indices: list[Tensor | None]) -> Tensor:
        """Stands in for `aten::index`, as ONNX's Gather is written."""
        first = indices[0]
        rows = len(indices) == 1 and first is not None and first.dtype in {torch.int32, torch.int64}
        if rows and first is not None and table.dim() == 2 and table.is_floating_point():
            return self._noted(table, torch.where(first < 0, first + len(table), first))
        with not_the_models():
            found: Tensor = torch.ops.aten.index.Tensor(table, indices)
        return found

    def select(self, table: Tensor, axis: int, index: Tensor) -> Tensor:
        """Stands in for `aten::index_select`."""
        if axis == 0 and table.dim() == 2 and table.is_floating_point():
            return self._noted(table, index)
        with not_the_models():
            found: Tensor = torch.ops.aten.index_select.default(table, axis, index)
        return found

    def _noted(self, table: Tensor, index: Tensor) -> Tensor:
        with not_the_models():
            found: Tensor = torch.ops.aten.embedding.default(table, index)
        if (
            found.requires_grad or not self.noting
        ):  # no table that is stored, but one made of the inputs
            return found
        leaf = found.requires_grad_()
        self.made.append(Lookup(table.detach(), index.detach().clone(), leaf))
        # A model may write into what it gets.
        return leaf * 1 if torch.is_grad_enabled() else leaf


@dataclass(frozen=True, slots=True)
class Use:
    """How one look reads an input.

    Attributes:
        number: of the look, in the order of the pass.
        column: of the input's last axis; None for all of it.
    """

    number: int
    column: int | None


def uses_of(ids: Tensor, lookups: Lookups) -> list[Use]:
    """The looks whose indices are an input, or a column of it."""
    found = []
    for number, look in enumerate(lookups.made):
        index = look.index.to(torch.int64).cpu()
        if index.numel() == ids.numel() and torch.equal(index.flatten(), ids.flatten()):
            found.append(Use(number, None))
        elif ids.dim() > 1 and index.numel() * ids.shape[-1] == ids.numel():
            columns = ids.reshape(-1, ids.shape[-1]).unbind(1)
            same = [c for c, column in enumerate(columns) if torch.equal(column, index.flatten())]
            found += [Use(number, column) for column in same[:1]]
    return found


@dataclass(slots=True)
class Tokens:
    """One input of one batch.

    Attributes:
        ids: int64, on the CPU.
        uses: the looks that read them.
        dtype: of the input as the model takes it.
    """

    ids: Tensor
    uses: list[Use]
    dtype: torch.dtype

    def drawn(self, lookups: Lookups, generator: torch.Generator) -> Tensor:
        """Rows of the tables, all alike."""
        tables = {u.column: len(lookups.made[u.number].table) for u in reversed(self.uses)}
        for use in self.uses:
            tables[use.column] = min(tables[use.column], len(lookups.made[use.number].table))
        if None in tables:
            return torch.randint(0, tables[None], self.ids.shape, generator=generator)
        ids = self.ids.clone()
        for column, rows in tables.items():
            part = ids[..., column]
            ids[..., column] = torch.randint(0, rows, part.shape, generator=generator)
        return ids

    def proposals(self, lookups: Lookups) -> tuple[Tensor, Tensor]:
        """Of each position the best id, and by how much it would change the objective.

        After a backward pass.
        """
        best, change = self.ids.clone(), torch.zeros(self.ids.shape, dtype=torch.float64)
        for column in dict.fromkeys(use.column for use in self.uses):
            looks = [lookups.made[u.number] for u in self.uses if u.column == column]
            rows = min(len(look.table) for look in looks)
            count = looks[0].index.numel()
            part = max(1, _AT_ONCE // max(rows, 1))
            ids, gains = [], []
            for start in range(0, count, part):
                score: Any = 0
                for look in looks:
                    grad = look.found.grad
                    if grad is not None:
                        there = slice(start, start + part)
                        flat = grad.reshape(count, -1)[there]
                        now = look.found.detach().reshape(count, -1)[there]
                        score = (
                            score + flat @ look.table[:rows].T - (flat * now).sum(1, keepdim=True)
                        )
                if isinstance(score, int):
                    return best, change
                gain, row = score.min(1)
                ids.append(row.cpu())
                gains.append(gain.double().cpu())
            place = ... if column is None else (..., column)
            shape = best[place].shape
            best[place] = torch.cat(ids).reshape(shape)
            change[place] = torch.cat(gains).reshape(shape)
        return best, change


def exchanged(
    ids: Tensor, best: Tensor, change: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """The ids with some exchanged, drawn by what they promise.

    Those that promise most ask for the same rows, and would overshoot together.
    """
    promise = (-change.flatten()).clamp(min=0)
    count = min(count, int((promise > 0).sum()))
    if not count:
        return ids
    flat = ids.flatten().clone()
    chosen = torch.multinomial(promise, count, generator=generator)
    flat[chosen] = best.flatten()[chosen]
    return flat.reshape(ids.shape)
