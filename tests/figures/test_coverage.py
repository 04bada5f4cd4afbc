"""A sample of docs/coverage.md: what torchvision's networks are made of, written in every way.

The networks are small and the code that measures them is the bench's.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import onnx
import pytest

from bnaudit.load.onnx import control
from bnaudit.load.onnx.converters import lookup

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from bench.coverage import DOCUMENT
from bench.vision.cells import WAYS, Cell, Original, Way, measure, original
from bench.vision.table import exceptions, networks, summary

from .coverage_nets import Branches, Mobile, Segmenter, seeded

if TYPE_CHECKING:
    from pathlib import Path

LISTED = 23
"""The operator set that docs/coverage.md goes through."""

NETS = {"mobile": (Mobile, 6), "branches": (Branches, 8), "segmenter": (Segmenter, 7)}


@cache
def network(name: str) -> Original:
    return original(*seeded(NETS[name][0]))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_every_network_written_in_every_way_is_right_and_measured(
    tmp_path: Path, name: str, way: Way
) -> None:
    net, calls = network(name), NETS[name][1]
    assert net.executed == calls
    cell = measure(way, net, tmp_path / "model")
    assert cell.refused == cell.failed == ""
    assert cell.relative <= 1e-5
    assert cell.exact <= 1e-7
    assert cell.layers == cell.measured == calls
    assert cell.residual <= 1
    assert cell.rows == 4, "the batch size of 1 was not lifted"
    # Below 18 the dynamo exporter converts what it wrote, or leaves it at 18 where it cannot.
    left = {18} if way.writer == "dynamo" and (way.opset or 0) < 18 else set()
    assert cell.opset in {way.opset} | left
    assert cell.passed


GOOD = Cell(opset=17, absolute=1e-7, relative=1e-7, executed=3, layers=3, measured=3, residual=0.1)


@pytest.mark.parametrize(
    "cell",
    [
        Cell(failed="no converter", executed=3),
        Cell(
            opset=17, absolute=1e-3, relative=1e-3, executed=3, layers=3, measured=3, residual=0.1
        ),
        Cell(opset=17, absolute=0, relative=0, executed=3, layers=3, measured=2, residual=0.1),
        Cell(opset=17, absolute=0, relative=0, executed=3, layers=2, measured=2, residual=0.1),
        Cell(opset=17, executed=3, layers=3, measured=3, residual=0.1),
    ],
    ids=["failed", "wrong", "unmeasured", "unseen", "not compared"],
)
def test_the_table_shows_what_did_not_pass(cell: Cell) -> None:
    way = Way("torchscript", 17)
    assert GOOD.passed
    assert not cell.passed
    results = {"net": {way: cell}, "other": {way: GOOD}}
    assert "| 1/2 |" in summary(results)
    assert "| net | 3 | 0/1 (4 not run) | not run |" in networks(results)
    assert exceptions(results).startswith("- net (torchscript-17): ")
    assert exceptions({"other": {way: GOOD}}) == "None."


def test_what_an_exporter_refuses_is_not_counted_as_written() -> None:
    results = {"net": {Way("torchscript", 11): Cell(refused="no einsum", executed=3)}}
    assert "0/0 (1 not written, 4 not run)" in networks(results)
    assert "| later | - | not run | not run |" in networks({"later": {}})
    assert "not written by the exporter: `no einsum`" in exceptions(results)


@pytest.mark.skipif(onnx.defs.onnx_opset_version() < LISTED, reason="an older onnx")
def test_the_document_lists_every_operator_without_translation() -> None:
    handled = {"Constant", "Dropout", "DequantizeLinear", *control.OPERATORS}
    missing = []
    for name in sorted({s.name for s in onnx.defs.get_all_schemas() if not s.domain} - handled):
        try:
            known = not onnx.defs.get_schema(name, LISTED, "").deprecated
        except onnx.defs.SchemaError:
            known = False  # of a later opset
        if known and not lookup.is_translated(name, LISTED):
            missing.append(f"`{name}`")
    text = DOCUMENT.read_text(encoding="utf-8")
    listed = re.search(r"of opset 23:\n(.*?);\n- single", text, re.DOTALL)
    assert listed
    assert " ".join(listed[1].split()) == ", ".join(missing)
