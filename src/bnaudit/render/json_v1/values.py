"""Records' values as strict JSON: what is not a finite number becomes null and leaves a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.records.values import Metric

Json = dict[str, object]


@dataclass(slots=True)
class Skips:
    """Collects why values are null, in the order of the document."""

    entries: list[Json] = field(default_factory=list)

    def add(self, metric: str, reason: str) -> None:
        """Note that the value at the dotted path `metric` is null."""
        self.entries.append({"metric": metric, "reason": reason})


def finite(value: float | None) -> float | None:
    """The number, or None where JSON has no way to write it."""
    return float(value) if value is not None and isfinite(value) else None


def number(value: float | Skipped, path: str, skips: Skips) -> float | None:
    """A single number, or None and the reason why there is none."""
    if isinstance(value, Skipped):
        skips.add(path, value.reason)
        return None
    if not isfinite(value):
        skips.add(path, f"not finite ({float(value)})")
    return finite(value)


def metric(value: Metric, path: str, skips: Skips) -> Json | None:
    """{median, q25, q75, n}, or None: half a metric would invite readers to trust the rest."""
    if isinstance(value, Skipped):
        skips.add(path, value.reason)
        return None
    quartiles = {
        "median": float(value.median),
        "q25": float(value.q25),
        "q75": float(value.q75),
    }
    if not all(isfinite(quartile) for quartile in quartiles.values()):
        values = ", ".join(f"{key} {quartile!r}" for key, quartile in quartiles.items())
        skips.add(path, f"not finite ({values})")
        return None
    return {**quartiles, "n": int(value.n)}


def metrics(values: Mapping[str, Metric], path: str, skips: Skips) -> Json:
    """One metric a key, each with its own path."""
    return {key: metric(value, f"{path}.{key}", skips) for key, value in values.items()}


def nulls(keys: Sequence[str], group: Skipped, path: str, skips: Skips) -> Json:
    """A skipped group keeps its shape: every key null, and one reason for all of them."""
    skips.add(path, group.reason)
    return dict.fromkeys(keys)


def array(values: Sequence[float], path: str, skips: Skips) -> list[float | None]:
    """A per-channel array; its length stays the number of channels, so bad entries become null."""
    bad = sum(not isfinite(value) for value in values)
    if bad:
        skips.add(path, f"{bad} of {len(values)} values not finite")
    return [finite(value) for value in values]
