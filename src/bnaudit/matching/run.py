"""Makes each batch of a session one that has the statistics which the model's layers store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import Batch
from bnaudit.errors import RunError
from bnaudit.matching import store
from bnaudit.matching.batch import Work
from bnaudit.matching.mismatch import mismatches
from bnaudit.progress import Silent
from bnaudit.records.matching import Matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

STEPS = 60
"""A batch, where nobody says: of the networks in docs/matched.md all are within the figures after 40."""

NO_STATISTICS = "no layer keeps running statistics: the batches are noise, matched to nothing"


def matched(session: Session, options: AuditOptions, progress: Progress) -> Session:
    """The session with matched batches; call inside `untouched`.

    Args:
        session: with the batches to begin with, of source "matched".
        options: how many steps.
        progress: told of each step.

    Raises:
        RunError: the model cannot be run.
    """
    limit = options.match_steps or STEPS
    session = _typed(session)
    items = session.batches.items
    progress.stage("matching", limit * len(items))
    made = [Work(session, index, limit, progress) for index in range(len(items))]
    key = store.key_of(session, limit) if options.match_cache else None
    cached = key is not None and _taken(key, session, made)
    note = None
    if not cached:
        for batch in made:
            with batch.opened():
                batch.optimise()
        if key is not None:
            note = store.write(key, [b.record() for b in made])
    matching = Matching(
        steps=tuple(b.steps for b in made),
        limit=limit,
        start=max(b.begun for b in made),
        end=max(b.left for b in made),
        kept=tuple(f"{name}: {why}" for name, why in made[0].kept.items()),
        cached=cached,
    )
    batches = replace(
        session.batches,
        items=tuple(replace(b.batch, labels=None) for b in made),
        info=replace(session.batches.info, matching=matching),
        labels_from=None,
    )
    notes = [*session.notes, *matching.kept, *filter(None, [note])]
    if not made[0].end.layers:
        notes.append(NO_STATISTICS)
    found = mismatches([(b.start, b.end) for b in made])
    return replace(session, batches=batches, notes=tuple(notes), mismatch=found)


def _taken(key: str, session: Session, made: Sequence[Work]) -> bool:
    """Whether the batches were there, and are what they are said to be."""
    found = store.read(key, session)
    if found is None:
        return False
    for batch, kept in zip(made, found, strict=True):
        with batch.opened():
            batch.take(kept)
        if not abs(batch.left - kept.left) <= _SAME * kept.left + _ROUNDING:
            for other in made:
                other.kept.clear()
            return False
    return True


_SAME, _ROUNDING = 0.01, 1e-6
"""How far the objective of a batch from the cache may be from what is said of it."""


def _typed(session: Session) -> Session:
    """With whole numbers where the model takes no others and its format does not say so."""
    undeclared = {s.name for s in session.placed.loaded.inputs if s.dtype is None}
    first = Work(session, 0, 0, Silent())
    try:
        with first.opened(), torch.no_grad():
            first.seen(session.batches.items[0].inputs)
    except RunError:
        whole = replace(
            session.batches,
            items=tuple(
                Batch(
                    tuple(
                        (x > 0).to(torch.int64) if name in undeclared else x
                        for name, x in zip(session.batches.names, batch.inputs, strict=True)
                    )
                )
                for batch in session.batches.items
            ),
        )
        try:
            with first.opened(), torch.no_grad():
                first.seen(whole.items[0].inputs)
        except RunError:
            return session
        return replace(session, batches=whole)
    return session
