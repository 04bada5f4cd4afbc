"""Which weights go into a BatchNorm and nowhere else, from the best witness there is.

A run saw it; a graph says it; names only suggest it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from bnaudit.errors import InputError
from bnaudit.initialisation.adjacency import guess
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.initialisation.pairs import Pairs, Renamed
    from bnaudit.initialisation.run import Seen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Links:
    """What is known of the layers around the weights, by canonical name.

    Attributes:
        feeds: weight -> the BatchNorm it feeds.
        source: "graph" or "names".
        layouts: weight -> its output axis, where something tells it.
        open_channels: channel counts of BatchNorms without a known weight.
        batchnorms: how many BatchNorm layers there are.
        seen: weight -> BatchNorm, from a run; `executed` are the layers that ran.
        executed: BatchNorm layers that ran, or None without a run.
    """

    feeds: Mapping[str, str]
    source: str
    layouts: Mapping[str, Layout]
    open_channels: frozenset[int]
    batchnorms: int
    seen: Mapping[str, str] = field(default_factory=dict)
    executed: frozenset[str] | None = None

    def following(self, name: str, shape: tuple[int, ...]) -> tuple[str, str | None, str]:
        """("yes", "no" or "unknown"; the BatchNorm; who says so) of one weight."""
        if name in self.seen:
            return "yes", self.seen[name], "run"
        known = self.feeds.get(name)
        if self.executed is not None and (known is None or known in self.executed):
            return "no", None, "run"
        if known is not None:
            return "yes", known, self.source
        maybe = bool(self.open_channels.intersection(shape[:2]))
        return ("unknown" if maybe else "no"), None, self.source

    def layout(self, name: str) -> Layout:
        """The output axis; 0 is assumed where nothing tells."""
        return self.layouts.get(name, Layout(0, 1, "assumed"))

    def after_run(self, found: Seen, trained: Renamed) -> Links:
        """With what a run of the trained network saw."""
        layouts = {**self.layouts, **_canonical(trained, found.layouts)}
        feeds = _canonical(trained, found.feeds)
        return replace(self, seen=feeds, layouts=layouts, executed=found.executed)


def static_links(pairs: Pairs) -> Links:
    """What the two files say without being run.

    Raises:
        InputError: BatchNorm was folded into the weights of one of them.
    """
    sides = (pairs.trained, pairs.start)
    _refuse_folded(pairs)
    layouts = {
        **_canonical(pairs.start, pairs.start.file.layouts),
        **_canonical(pairs.trained, pairs.trained.file.layouts),
    }
    graph = next((s for s in sides if s.file.feeds is not None), None)
    if graph is not None:
        feeds = {weight: name for name, weight in (graph.file.feeds or {}).items()}
        return Links(
            feeds=_canonical(graph, feeds),
            source="graph",
            layouts=layouts,
            open_channels=frozenset(),
            batchnorms=len(graph.file.batchnorms or ()),
        )
    ordered = next((s for s in sides if s.file.ordered), sides[0])
    found = guess(_shapes(ordered), ordered=ordered.file.ordered)
    from_channels = {
        weight: Layout(int(weight in found.transposed), 1, "batchnorm")
        for weight in found.feeds.values()
    }
    return Links(
        feeds={weight: name for name, weight in found.feeds.items()},
        source="names",
        layouts={**from_channels, **layouts},
        open_channels=found.open_channels,
        batchnorms=len(found.batchnorms),
    )


def _canonical(side: Renamed, found: Mapping[str, T]) -> dict[str, T]:
    """By the names of the report what is known by those of the file; what has none is left out."""
    canonical = {tensor.name: name for name, tensor in side.tensors.items()}
    return {canonical[name]: value for name, value in found.items() if name in canonical}


def _shapes(side: Renamed) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in side.tensors.items()}


def _batchnorms(side: Renamed) -> int:
    if side.file.batchnorms is not None:
        return len(side.file.batchnorms)
    return len(guess(_shapes(side), ordered=side.file.ordered).batchnorms)


def _refuse_folded(pairs: Pairs) -> None:
    """An inference export multiplies gamma/sigma into the weights, and keeps their names."""
    for side, other in ((pairs.trained, pairs.start), (pairs.start, pairs.trained)):
        if side.file.kind is FileKind.ONNX and not _batchnorms(side) and _batchnorms(other):
            raise InputError(
                f"{side.file.path}: has no BatchNorm left, but {other.file.path} has "
                f"{_batchnorms(other)}: the export folded them into the weights",
                hint="export with training=TrainingMode.PRESERVE, or give the checkpoint",
            )
