"""The table over all models: counted in one pass over the rows, of which only the worst stay in memory."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit.records.finding import Severity
from bnaudit.records.fleet import Fleet, FleetModel

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from bnaudit.fleet.results import Results
    from bnaudit.records.fleet import FleetRow

SHOWN = 20
"""Models of a table for people; JSON has all."""


class Rows:
    """Reads rows as records, each time anew; one at a time is in memory."""

    def __init__(self, results: Results, entries: Container[str] | None) -> None:
        self.results, self.entries = results, entries

    def documents(self) -> Iterator[dict[str, Any]]:
        """As JSON."""
        for document in self.results.rows():
            if self.entries is None or document["entry"] in self.entries:
                yield document

    def __iter__(self) -> Iterator[FleetRow]:
        from bnaudit.render.json_v1 import read_row

        return map(read_row, self.documents())


@dataclass
class _Counts:
    """What is counted while the rows go by."""

    outcomes: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    warnings: int = 0
    exit_code: int = 0
    spent: float = 0.0
    longest: float = 0.0

    def over(self, documents: Iterable[dict[str, Any]]) -> Iterator[FleetModel]:
        """The models, counted."""
        for document in documents:
            model = _model(document)
            self.outcomes[model.outcome] += 1
            self.errors += model.errors
            self.warnings += model.warnings
            self.exit_code = max(self.exit_code, model.exit_code)
            self.spent += model.seconds
            self.longest = max(self.longest, model.seconds)
            yield model


def fleet_of(
    results: Results,
    entries: Container[str] | None,
    *,
    total: int | None,
    skipped: int = 0,
    most: int | None = SHOWN,
    fail_on: Severity | None = Severity.ERROR,
    notes: Iterable[str] = (),
) -> Fleet:
    """What the rows amount to.

    Args:
        results: the file.
        entries: those that count; None for all.
        total: how many there are.
        skipped: rows that an earlier run made.
        most: models to list, None for all.
        fail_on: severity from which findings fail.
        notes: to tell.
    """
    rows, counts = Rows(results, entries), _Counts()
    found = counts.over(rows.documents())
    models = sorted(found, key=_order) if most is None else heapq.nsmallest(most, found, key=_order)
    done = counts.outcomes.total()
    told = [*notes]
    if others := len(results.places) - done:
        told.append(f"{results.path} has {others} rows of other entries, which are not counted")
    return Fleet(
        results=str(results.path),
        entries=total,
        done=done,
        skipped=skipped,
        outcomes=dict(sorted(counts.outcomes.items())),
        errors=counts.errors,
        warnings=counts.warnings,
        spent=counts.spent,
        longest=counts.longest,
        fail_on=fail_on,
        exit_code=counts.exit_code,
        models=tuple(models),
        more=done - len(models),
        notes=tuple(told),
        rows=rows,
    )


def _order(model: FleetModel) -> tuple[Any, ...]:
    """Worst first; among equals by name, so that a resumed run has the same table."""
    return (-model.exit_code, -model.errors, -model.warnings, model.model, model.entry)


def _model(document: dict[str, Any]) -> FleetModel:
    counts = (document["summary"] or {}).get("findings") or {}
    finding = next(iter(document["findings"]), None)
    worst = document["reason"]
    if worst is None and finding is not None and finding["severity"] != Severity.INFO.label:
        where = f"{finding['layer']}: " if finding["layer"] else ""
        worst = f"{finding['rule']} {where}{finding['message']}"
    weights = document["options"].get("weights")
    return FleetModel(
        model=f"{weights} ({document['model']})" if weights else document["model"],
        entry=document["entry"],
        outcome=document["outcome"],
        exit_code=document["exit_code"],
        layers=len(document["layers"]),
        errors=counts.get("error", 0),
        warnings=counts.get("warning", 0),
        worst=worst,
        seconds=document["seconds"],
    )
