"""Where a checkpoint stands in its run: by what it stores, else by its name, else as it was given."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from bnaudit.records.training import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Places = dict[str, float]
"""Axis -> where a file stands on it, of the axes that it says something of."""

_STEP = re.compile(r"(?:step|iter|iteration|it)s?[=_\-.]?(\d+)", re.IGNORECASE)
_EPOCH = re.compile(r"(?:epoch|ep)s?[=_\-.]?(\d+)", re.IGNORECASE)
_TRAINER = re.compile(r"checkpoint-(\d+)")
"""A folder of Hugging Face's Trainer, which counts steps."""
_DIGITS = re.compile(r"\d+")


def by_content(facts: Mapping[str, str]) -> Places:
    """What the file stores beside the weights."""
    return {axis: float(facts[axis]) for axis in AXES[:2] if axis in facts}


def by_names(paths: Sequence[Path]) -> list[Places]:
    """What the names say; a bare number is one where the names of the run differ in it."""
    texts = [f"{path.parent.name}/{path.name}" for path in paths]
    bare = _bare(texts)
    found: list[Places] = []
    for path, number in zip(paths, bare, strict=True):
        places: Places = {}
        for axis, pattern in (("step", _STEP), ("epoch", _EPOCH)):
            if marked := pattern.search(path.name) or pattern.search(path.parent.name):
                places[axis] = float(marked[1])
        if folder := _TRAINER.fullmatch(path.parent.name):
            places.setdefault("step", float(folder[1]))
        if number is not None:
            places["number"] = number
        found.append(places)
    return found


def _bare(texts: Sequence[str]) -> list[float | None]:
    """Of names that are alike but for their numbers the first number that all have different."""
    skeletons = [_DIGITS.sub("#", text) for text in texts]
    common = Counter(skeletons).most_common(1)
    like = [i for i, skeleton in enumerate(skeletons) if common and skeleton == common[0][0]]
    found: list[float | None] = [None] * len(texts)
    if len(like) < 2:
        return found
    rows = [[float(d) for d in _DIGITS.findall(texts[i])] for i in like]
    for column in zip(*rows, strict=True):
        if len(set(column)) == len(column):
            for i, value in zip(like, column, strict=True):
                found[i] = value
            break
    return found


def axis_of(places: Sequence[Places]) -> str:
    """The first axis that most files say something of; "order" where none is.

    Args:
        places: of the files that are read.
    """
    known = (axis for axis in AXES[:-1] if 2 * sum(axis in p for p in places) > len(places))
    return next(known, AXES[-1])
