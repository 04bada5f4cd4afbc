"""Which columns and rows of a document's main table are shown, as a person asked.

No rich here: --help lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_LISTED = {
    "report": "layer channels m gain spread le1 gap mismatch leak mean_drift variance_drift predicted "
    "measured iqr fd_error residual removed removed_mean removed_xhat curvature own bound bound_channels",
    "inspect": "layer channels gain spread le1 eps momentum batches dtype flag scale behind folds",
    "init": "weight batchnorm start trained cosine k nearer ray k_min k_median k_max k_positive loss_change "
    "identity",
    "recalibration": "layer channels values mean_before mean_max_before variance_before variance_max_before "
    "mean_after mean_max_after variance_after variance_max_after calls_mean calls_variance",
}
COLUMNS = {document: tuple(keys.split()) for document, keys in _LISTED.items()}
"""Document -> keys of the columns of its main table; the first is always shown."""

UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class View:
    """What is shown of a table.

    Attributes:
        columns: keys, in this order; () for those that fit.
        top: how many rows, None for all.
        sort: key of the column that rows are sorted by, with ":up" or ":down"; "" for the document's order.
    """

    columns: tuple[str, ...] = ()
    top: int | None = None
    sort: str = ""

    def arranged(self, rows: Sequence[T], value: Callable[[T, str], float | str | None]) -> list[T]:
        """The rows that are shown, in their order: numbers from the largest, names from the first letter.

        Rows without a value stand last either way.

        Args:
            rows: all.
            value: of a row in the column of this key.
        """
        found = list(rows)
        if self.sort:
            key, _, direction = self.sort.partition(":")
            values = {id(row): value(row, key) for row in found}
            known = [row for row in found if values[id(row)] is not None]
            numbers = all(not isinstance(values[id(row)], str) for row in known)
            falling = direction != UP if numbers else direction == DOWN
            known.sort(key=lambda row: values[id(row)], reverse=falling)  # type: ignore[arg-type,return-value]
            found = known + [row for row in found if values[id(row)] is None]
        return found[: self.top]


ALL = View()


def column_of(document: str, key: str) -> str:
    """A key, known to be one of the document's main table.

    Raises:
        UsageError: it is none.
    """
    known = COLUMNS[document]
    if key not in known:
        close = get_close_matches(key, known, 1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"no column {key!r}{meant} (there are: {', '.join(known)})")
    return key


def order_of(document: str, text: str) -> str:
    """A column and a direction, known to be ones.

    Raises:
        UsageError: as `column_of`, or there is no such direction.
    """
    key, colon, direction = text.partition(":")
    column_of(document, key)
    if colon and direction not in {UP, DOWN}:
        raise UsageError(f"no order {direction!r} (there are: {UP}, {DOWN})")
    return text
