"""Networks that reshape, in files of one batch size audited at another: equal to the live module, or refused.

The code that compares is the bench's; docs/coverage.md has the table of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("onnxscript")

from bench.reshapes.__main__ import DOCUMENT
from bench.reshapes.compare import Cell, outcome
from bench.reshapes.nets import NETWORKS
from bench.theory_numbers import blocks

if TYPE_CHECKING:
    from pathlib import Path

EQUAL = [
    Cell("patches, last size open", "TorchScript", 1),
    Cell("windows", "dynamo", 4),
    Cell("distilled tokens", "dynamo", 1),
    Cell("token labels", "TorchScript", 4),
    Cell("space to depth", "TorchScript", 1),
    Cell("pixel unshuffle", "dynamo", 1),
    Cell("constant one", "TorchScript", 4),
    Cell("group statistics", "dynamo", 4),
    Cell("attention pool", "TorchScript", 1),
    Cell("queries", "TorchScript", 4),
    Cell("LSTM with a state", "TorchScript", 4),
    Cell("GRU", "dynamo", 4),
    Cell("GRU over rows", "TorchScript", 1),
    Cell("time distributed", "TorchScript", 1),
    Cell("time in front", "TorchScript", 1),
    Cell("einsum, batch behind", "TorchScript", 4),
    Cell("point net", "TorchScript", 4),
    Cell("coordinates", "TorchScript", 4),
]
REFUSED = [
    (Cell("dynamic convolution", "TorchScript", 1), "its rows depend on the batch size"),
    (Cell("rows together", "TorchScript", 4), "its rows depend on the batch size"),
]


@pytest.mark.parametrize("cell", EQUAL, ids=str)
def test_every_number_is_that_of_the_live_module(cell: Cell, tmp_path: Path) -> None:
    found = outcome(cell, tmp_path)
    assert found.equal, found
    assert found.numbers > 200


@pytest.mark.parametrize(("cell", "reason"), REFUSED, ids=str)
def test_what_cannot_be_lifted_is_refused_with_the_reason(
    cell: Cell, reason: str, tmp_path: Path
) -> None:
    assert outcome(cell, tmp_path).refused.endswith(f"cannot be run at 6: {reason}")


def test_the_document_has_every_network_and_nothing_wrong() -> None:
    total, _, *rows = blocks(DOCUMENT.read_text(encoding="utf-8"))["reshapes"].splitlines()
    assert total.endswith(", 0 wrong.")
    assert [row.split("|")[1].strip() for row in rows[2:]] == list(NETWORKS)
