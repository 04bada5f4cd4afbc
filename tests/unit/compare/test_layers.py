"""Which layer is which."""

from __future__ import annotations

import pytest

from bnaudit.compare.match import match_layers
from bnaudit.records.snapshot import LayerSnapshot

from .makers import layers


def shape(*sizes: tuple[str, int | None]) -> tuple[LayerSnapshot, ...]:
    return tuple(LayerSnapshot(label, "BatchNorm2d", channels) for label, channels in sizes)


@pytest.mark.parametrize(
    ("old", "new", "renamed", "added", "removed"),
    [
        (layers("a", "b"), layers("a", "b"), {}, "", ""),
        (layers("a", "b", "c"), layers("a", "x", "c"), {"b": "x"}, "", ""),
        (layers("a", "b"), layers("x", "y"), {"a": "x", "b": "y"}, "", ""),
        (layers("a", "b"), layers("b", "a"), {}, "", ""),
        (layers("a", "b", "c"), layers("a", "c"), {}, "", "b"),
        (layers("a"), layers("a", "b", "b#2"), {}, "b b#2", ""),
        (layers("a", "b", "c"), layers("a", "x", "y", "c"), {}, "x y", "b"),
        (shape(("a", 8), ("b", 16)), shape(("a", 8), ("x", 32)), {}, "x", "b"),
        (shape(("a", None)), shape(("x", None)), {}, "x", "a"),
        (shape(("a", 8), ("b", 16)), shape(("x", 16), ("y", 8)), {}, "x y", "a b"),
        (
            shape(("bn1", 8), ("bn2", 8), ("bn3", 8)),
            shape(("module.bn1", 8), ("module.bn3", 8)),
            {"bn1": "module.bn1", "bn3": "module.bn3"},
            "",
            "bn2",
        ),
        (layers("bn", "q"), layers("x.bn", "y.bn", "z"), {}, "x.bn y.bn z", "bn q"),
        (layers(), layers("a"), {}, "a", ""),
    ],
)
def test_matches(
    old: tuple[LayerSnapshot, ...],
    new: tuple[LayerSnapshot, ...],
    renamed: dict[str, str],
    added: str,
    removed: str,
) -> None:
    match = match_layers(old, new)
    assert match.renamed == renamed
    assert [layer.label for layer in match.added] == added.split()
    assert [layer.label for layer in match.removed] == removed.split()
    assert len(match.pairs) == len(new) - len(match.added) == len(old) - len(match.removed)
    assert all(renamed.get(a.label, a.label) == b.label for a, b in match.pairs)


def test_a_large_renamed_model_is_matched() -> None:
    sizes = [8 * (1 + i // 7) for i in range(300)]
    old = shape(*((f"layer{i}.bn", size) for i, size in enumerate(sizes)))
    new = shape(*((f"stage.{i}.norm", size) for i, size in enumerate(sizes)))
    assert len(match_layers(old, new).renamed) == 300
