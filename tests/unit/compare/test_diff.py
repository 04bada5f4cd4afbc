"""What changed between two reports, and what of it is a regression."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rich.cells import cell_len

from bnaudit.compare.diff import compare
from bnaudit.compare.movement import movements
from bnaudit.errors import UsageError
from bnaudit.records.diff import NEITHER, Diff
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import BatchNormStatics, Inspection
from bnaudit.records.snapshot import LayerSnapshot, Quantity
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1 import document_text, schema_text
from bnaudit.render.text import document_to_text

from .makers import finding, layers, snapshot

MILD = finding(observed=0.6, threshold=0.5)
GRAVE = replace(MILD, observed=0.9)
SCHEMA = json.loads(schema_text("diff"))


def stored(*values: BatchNormStatics, dtype: str | None = "float32") -> Inspection:
    return Inspection("m.onnx", "onnx", batchnorms=tuple(replace(v, dtype=dtype) for v in values))


def bn(name: str = "a", **changes: Any) -> BatchNormStatics:
    one = (1.0, 2.0)
    plain = BatchNormStatics(name, "node", 2, None, None, None, None, None, one, one, one, one)
    return replace(plain, **changes)


def warned(old: Any, new: Any, **changes: Any) -> Diff:
    return compare(old, new, fail_on=Severity.WARNING, **changes)


def everything() -> Diff:
    """One of each."""
    a, b = layers("bn1", channels=2), layers("bn2", channels=4)
    number = {"reduction": Quantity(1.0, 0.9, 1.1), "curvature": Quantity(1.0, 1.0, 1.0, False)}
    changed = {"reduction": Quantity(2.0, 1.9, 2.1), "curvature": Quantity(-1.0, -1.0, -1.0, False)}
    worse = finding("BN301", "bn1", observed=0.6, threshold=0.5)
    better = finding("BN302", "bn1", severity=Severity.ERROR)
    return compare(
        snapshot(
            finding("BN303", "bn1"), worse, better, finding("BN305", "bn1"),
            layers=(replace(a[0], numbers=number), *b, *layers("bn3", "gone\x1b[31m")),
        ),
        snapshot(
            finding("BN304", "norm2"), replace(worse, observed=0.9),
            replace(better, severity=Severity.INFO),
            path="new.json", tool="1.1", settings={"dtype": "float64"},
            not_judged=frozenset({"BN305"}),
            layers=(replace(a[0], numbers=changed), *layers("norm2", channels=4),
                    *layers("bn3", "extra", "more")),
        ),
        fail_on=Severity.WARNING,
        stored=(
            stored(bn("bn1"), bn("bn2", gamma=None), bn("bn3")),
            stored(bn("bn1", running_mean=(1.0, 3.0)), bn("bn2", channels=2), bn("bn3")),
        ),
        frozen=["bn1"],
    )  # fmt: skip


def test_the_same_has_no_regression() -> None:
    diff = warned(snapshot(MILD), snapshot(MILD, path="new.json"))
    assert (diff.exit_code, diff.unchanged, diff.regressions) == (0, 1, 0)
    assert (
        document_to_text(diff)
        .splitlines()[-1]
        .startswith("PASS: no regression; findings: 0 appear")
    )


@pytest.mark.parametrize(
    ("old", "new", "name", "code"),
    [
        ([], [MILD], "appeared", 1),
        ([MILD], [GRAVE], "worse", 1),
        ([GRAVE], [MILD], "better", 0),
        ([MILD], [], "gone", 0),
    ],
)
def test_findings(old: list[Any], new: list[Any], name: str, code: int) -> None:
    diff = warned(snapshot(*old), snapshot(*new))
    counts = {key: len(getattr(diff, key)) for key in ("appeared", "worse", "better", "gone")}
    assert counts == {**dict.fromkeys(counts, 0), name: 1}
    assert diff.exit_code == code
    assert replace(diff, fail_on=Severity.ERROR).exit_code == 0
    assert replace(diff, fail_on=None).exit_code == 0


def test_a_rule_that_did_not_run_mends_nothing() -> None:
    diff = warned(snapshot(MILD), snapshot(not_judged=frozenset({MILD.rule})))
    assert (diff.gone, diff.not_judged) == ((), (MILD,))


def test_a_removed_layer_is_a_warning() -> None:
    diff = warned(snapshot(), snapshot(layers=layers("a", "c")))
    assert ([layer.label for layer in diff.removed], diff.exit_code) == (["b"], 1)
    assert replace(diff, fail_on=Severity.ERROR).exit_code == 0
    assert warned(snapshot(layers=layers("a")), snapshot()).exit_code == 0


def test_nothing_on_either_side_is_3() -> None:
    diff = warned(snapshot(layers=()), snapshot(layers=()))
    assert diff.exit_code == 3
    assert document_to_text(diff).splitlines()[-1].startswith("NOTHING TO COMPARE")
    assert warned(snapshot(), snapshot(layers=())).exit_code == 1


def test_numbers_change_by_more_than_their_spread() -> None:
    def with_numbers(**values: Quantity) -> Any:
        return snapshot(layers=(LayerSnapshot("a", "BatchNorm2d", 8, values),))

    old = with_numbers(gain=Quantity(1, 0.9, 1.1), reduction=Quantity(1, 0.9, 1.1))
    new = with_numbers(gain=Quantity(1.15, 1.05, 1.3), reduction=Quantity(3, 2, 4))
    (change,) = warned(old, new).numbers
    assert (change.metric, change.size, warned(old, new).exit_code) == ("reduction", 2 / 3, 0)
    assert warned(old, snapshot()).numbers == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((1.0, 2.0), (1.0, 2.0), 0.0),
        ((1.0, 2.0), (1.0, 4.0), 0.5),
        ((1.0, -2.0), (1.0, 2.0), 2.0),
        ((0.0, 0.0), (0.0, 0.0), 0.0),
        ((0.0, 0.0), (0.0, 1.0), 1.0),
        ((1e308, -1e308), (-1e308, 1e308), 2.0),
        (None, None, NEITHER),
        (None, (1.0, 2.0), Skipped("not stored in the old file")),
        ((1.0, 2.0), None, Skipped("not stored in the new file")),
        ((1.0, 2.0), (1.0,), Skipped("2 channels, now 1")),
        ((1.0, nan), (1.0, nan), Skipped("not finite")),
        ((1.0, inf), (1.0, 1.0), Skipped("not finite")),
    ],
)
def test_how_far_values_move(old: Any, new: Any, expected: Any) -> None:
    (movement,) = movements(stored(bn(gamma=old)), stored(bn(gamma=new)))
    assert movement.gamma == expected
    assert movement.same == (expected in (0.0, NEITHER))
    assert movement.parameters == (isinstance(expected, float) and expected > 0)
    assert not movement.statistics


def test_another_precision_rounds() -> None:
    rounded = bn(gamma=(1.0, 2.001953125))
    exact = bn(gamma=(1.0, 2.0021))
    (movement,) = movements(stored(exact), stored(rounded, dtype="float16"))
    assert isinstance(movement.gamma, float)
    assert 0 < movement.gamma < movement.tolerance
    assert movement.same
    (movement,) = movements(stored(exact), stored(rounded))
    assert not movement.same


def test_frozen_layers_must_not_move() -> None:
    moved = (stored(bn("a"), bn("b")), stored(bn("a", running_var=(1.0, 9.0)), bn("b")))
    diff = warned(snapshot(), snapshot(), stored=moved, frozen=["*"])
    assert (diff.frozen, diff.exit_code) == (("a",), 1)
    assert "FROZEN: statistics" in document_to_text(diff)
    assert warned(snapshot(), snapshot(), stored=moved, frozen=["b"]).exit_code == 0
    assert warned(snapshot(), snapshot(), stored=moved).exit_code == 0
    with pytest.raises(UsageError, match="matches none of the 2 layers"):
        warned(snapshot(), snapshot(), stored=moved, frozen=["c"])
    with pytest.raises(UsageError, match="needs two model files"):
        warned(snapshot(), snapshot(), frozen=["a"])


def test_an_audit_is_not_an_inspection() -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        warned(snapshot(), snapshot(kind="inspection"))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_table_fits_and_tells_everything(width: int, unicode: bool) -> None:
    text = document_to_text(everything(), width=width, unicode=unicode)
    sentence = " ".join(text.split())
    assert all(cell_len(line) <= width and line == line.rstrip() for line in text.splitlines())
    assert unicode or text.isascii()
    assert "\x1b" not in text
    for rule in ("BN301", "BN302", "BN303", "BN304", "BN305"):
        assert rule in text
    for word in ("appeared", "worse", "better", "gone", "not judged", "1 removed", "FROZEN"):
        assert word in sentence
    assert "FAIL: 4 regressions" in sentence
    colored = document_to_text(everything(), width=width, unicode=unicode, color=True)
    assert "\x1b[" in colored


def test_the_json_keeps_its_shape() -> None:
    full = json.loads(document_text(everything()))
    empty = json.loads(document_text(warned(snapshot(), snapshot())))
    for document in (full, empty):
        Draft202012Validator(SCHEMA).validate(document)
        assert list(document) == SCHEMA["required"]
    assert full["summary"]["regressions"] == 4
    assert full["layers"]["renamed"] == [{"old": "bn2", "new": "norm2"}]
    assert full["numbers"][0]["old"] == {"value": 1, "low": None, "high": None}
    assert [m["frozen_but_moved"] for m in full["movements"]] == [True, False, False]
    assert full["movements"][1]["skipped"] == [
        {"metric": "gamma", "reason": "not stored in the old file"}
    ]
    assert empty["skipped"] == [
        {"metric": "movements", "reason": "the stored values are not at hand"}
    ]


def test_the_schema_shares_what_reports_have() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    report = json.loads(schema_text())["$defs"]
    assert SCHEMA["$defs"]["finding"] == report["finding"]
    assert SCHEMA["$defs"]["skipped"] == report["skipped"]
