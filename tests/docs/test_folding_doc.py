"""The table of docs/folding.md: whole, without a wrong cell, and true of what is installed here."""

from __future__ import annotations

import re
from pathlib import Path

from bench.folding.__main__ import ENVIRONMENTS, EXPORTERS, JOBS, OPTIMISERS, produced, table
from bench.folding.networks import PATTERNS

TEXT = (Path(__file__).parents[2] / "docs" / "folding.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ")]
TITLES = [row.split(" | ")[0].removeprefix("| ") for row in ROWS[2:]]


def test_every_tool_has_a_row_and_every_cell_is_right() -> None:
    assert ROWS[0] == f"| tool | {' | '.join(PATTERNS)} | remedy |"
    assert "WRONG" not in TEXT
    assert "not written" not in TEXT
    for exporter in EXPORTERS:
        assert exporter in TITLES
        assert all(f"{tool} after {exporter}" in TITLES for tool in OPTIMISERS)
    for name, *_, ways in JOBS:
        told = {t for t in TITLES if t.startswith(f"{name}: ")}
        assert told >= {f"{name}: {w}" for w in ways if w != "keras" and "advised" not in w}


def test_every_remedy_that_is_printed_gives_batchnorm_back() -> None:
    counts = re.findall(r"\| (\d+) of (\d+) \|$", TEXT, re.MULTILINE)
    assert len(counts) > 12
    assert all(back == gone for back, gone in counts)


def test_the_versions_are_those_that_are_pinned() -> None:
    for pins in ENVIRONMENTS.values():
        for name, _, version in (pin.partition("==") for pin in pins):
            if name not in {"packaging", "six", "onnx", "onnxscript"}:
                assert version in TEXT, name


def test_what_is_installed_here_still_does_so(tmp_path: Path) -> None:
    produced(tmp_path, None)
    found = table(tmp_path, everything=False)
    assert [row for row in found if row not in ROWS] == []
