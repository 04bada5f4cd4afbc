"""Which weight feeds which BatchNorm, where only names, shapes and order are left of the network.

A BatchNorm is a prefix with 1-D running_mean and running_var of one length C. The weight that feeds
it has C output channels and stands beside it in the same module:

- with its number, and registered before it: conv1, bn1;
- or right before it in a Sequential: 0, 1;
- or right before it in the file: conv_pw, bn1; conv1, bn2 in a pre-activation block.

Each weight is taken once. Whatever this leaves open is unknown, not absent. A safetensors file is
sorted by name; its numbers count only if channels tell conv-BN from BN-conv: all agree with the
output, and in at least one the input differs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = re.compile(r"\d*$")


@dataclass(frozen=True, slots=True)
class Guess:
    """What names allow to say.

    Attributes:
        feeds: BatchNorm -> the name of the weight that feeds it.
        transposed: those of these weights whose output channels are axis 1.
        batchnorms: BatchNorm -> channels, in the file's order.
        open_channels: channel counts of the BatchNorms that no weight was found for.
    """

    feeds: Mapping[str, str]
    transposed: frozenset[str]
    batchnorms: Mapping[str, int]
    open_channels: frozenset[int]


@dataclass(slots=True)
class _Entry:
    """A module of the file: a weight's shape, or a BatchNorm's channels."""

    parent: str
    leaf: str
    position: int
    shape: tuple[int, ...] = ()
    channels: int = 0

    @property
    def number(self) -> str:
        found = _NUMBER.search(self.leaf)
        return found[0] if found else ""


@dataclass(slots=True)
class _Search:
    weights: dict[str, _Entry]
    batchnorms: dict[str, _Entry]
    ordered: bool
    taken: set[str] = field(default_factory=set)

    def siblings(self, bn: _Entry) -> dict[str, _Entry]:
        return {
            path: w
            for path, w in self.weights.items()
            if w.parent == bn.parent
            and path not in self.taken
            and (w.position < bn.position or not self.ordered)
            and bn.channels in w.shape[:2]
        }

    def feeder(self, bn: _Entry, numbers: bool) -> str | None:
        siblings = self.siblings(bn)
        if bn.leaf.isdecimal():
            numbers_of = {p: int(w.leaf) for p, w in siblings.items() if w.leaf.isdecimal()}
            return next((p for p, n in numbers_of.items() if n + 1 == int(bn.leaf)), None)
        same = [p for p, w in siblings.items() if w.number == bn.number and not w.leaf.isdecimal()]
        if numbers and len(same) == 1:
            return same[0]
        if not self.ordered:
            return None
        # Right before the layer in the file, with no other layer between.
        entries = [*self.weights.items(), *self.batchnorms.items()]
        before = [(e.position, path) for path, e in entries if e.position < bn.position]
        previous = max(before, default=(0, ""))[1]
        return previous if previous in siblings else None

    def numbers_tell(self) -> bool:
        """Whether equal numbers mean weight-then-BatchNorm in a file without order."""
        if self.ordered:
            return True
        pairs = [
            (bn.channels, w.shape)
            for bn in self.batchnorms.values()
            for w in self.weights.values()
            if w.parent == bn.parent and w.number == bn.number and not bn.leaf.isdecimal()
        ]
        return all(c == s[0] for c, s in pairs) and any(s[0] != s[1] for _, s in pairs)


def guess(shapes: Mapping[str, tuple[int, ...]], *, ordered: bool) -> Guess:
    """Pairs weights with BatchNorm layers as far as names allow.

    Args:
        shapes: name -> shape of all tensors, in the file's order.
        ordered: whether that order is the order of registration.
    """
    search = _search(shapes, ordered)
    numbers = search.numbers_tell()
    feeds: dict[str, str] = {}
    transposed: set[str] = set()
    for name, bn in search.batchnorms.items():
        path = search.feeder(bn, numbers)
        if path is None:
            continue
        search.taken.add(path)
        feeds[name] = _join(path, "weight")
        if search.weights[path].shape[0] != bn.channels:
            transposed.add(feeds[name])
    return Guess(
        feeds=feeds,
        transposed=frozenset(transposed),
        batchnorms={name: bn.channels for name, bn in search.batchnorms.items()},
        open_channels=frozenset(
            bn.channels for name, bn in search.batchnorms.items() if name not in feeds
        ),
    )


def _search(shapes: Mapping[str, tuple[int, ...]], ordered: bool) -> _Search:
    weights: dict[str, _Entry] = {}
    batchnorms: dict[str, _Entry] = {}
    first: dict[str, int] = {}
    for position, (name, shape) in enumerate(shapes.items()):
        path, _, kind = name.rpartition(".")
        parent, _, leaf = path.rpartition(".")
        first.setdefault(path, position)
        if kind == "weight" and len(shape) > 1:
            weights[path] = _Entry(parent, leaf, position, shape=shape)
        elif (
            kind == "running_mean"
            and len(shape) == 1
            and shapes.get(_join(path, "running_var")) == shape
        ):
            batchnorms[path] = _Entry(parent, leaf, first[path], channels=shape[0])
    return _Search(weights, batchnorms, ordered)


def _join(path: str, leaf: str) -> str:
    return f"{path}.{leaf}" if path else leaf
