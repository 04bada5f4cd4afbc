"""Numbers, names and boxes by themselves."""

from __future__ import annotations

import subprocess
import sys
from math import inf, nan

import pytest

from bnaudit.render.text.cells import Charset, LogAxis, axis_for, draw
from bnaudit.render.text.words import (
    align_decimal,
    count,
    error_size,
    listing,
    percent,
    plural,
    significant,
    whole_percent,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.184, "1.18"),
        (0.3344, "0.334"),
        (12.345, "12.3"),
        (9.996, "10.0"),
        (0.9996, "1.00"),
        (12345.6, "12346"),
        (99999.7, "1e+05"),
        (0.001234, "0.00123"),
        (0.00099999, "0.00100"),
        (0.0000121, "1.2e-05"),
        (-0.5, "-0.500"),
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "4.9e-324"),
        (inf, "inf"),
        (nan, "nan"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("share", "one_decimal", "whole"),
    [
        (0.0, "0.0%", "0%"),
        (-0.0, "0.0%", "0%"),
        (0.0004, "<0.1%", "<1%"),
        (0.361, "36.1%", "36%"),
        (0.999, "99.9%", ">99%"),
        (1.0, "100.0%", "100%"),
        (nan, "nan", "nan"),
        (1e9, "1e+11%", "1e+11%"),
    ],
)
def test_shares(share: float, one_decimal: str, whole: str) -> None:
    assert (percent(share), whole_percent(share)) == (one_decimal, whole)


def test_sizes_of_errors_and_models() -> None:
    assert [error_size(value) for value in (0.21, 1e-5, 3.14e-8, 0.0, 2e7)] == [
        "0.21",
        "1e-05",
        "3.1e-08",
        "0",
        "2e+07",
    ]
    assert [count(value) for value in (0, 999, 272_474, 11_700_000, 7 * 10**9)] == [
        "0",
        "999",
        "272 k",
        "11.7 M",
        "7.00 G",
    ]


def test_decimal_points_stand_under_each_other() -> None:
    assert align_decimal(["1.18", "0.334", "12.3", "1.2e-05", "7", "–"]) == [
        " 1.18   ",
        " 0.334  ",
        "12.3    ",
        " 1.2e-05",
        " 7      ",
        " –      ",
    ]
    assert align_decimal([]) == []


def test_shortened_names_stay_different() -> None:
    names = [f"features.denseblock{b}.denselayer16.norm2" for b in (1, 2, 3)]
    shortened = Charset().shorten_names(names, 26)
    assert len(set(shortened)) == 3
    assert all(len(name) == 26 and "…" in name for name in shortened)
    assert Charset().shorten_names(["bn1", "layer1.bn"], 9) == ["bn1", "layer1.bn"]


def test_shortening_in_ascii_has_room_for_three_dots() -> None:
    assert Charset(unicode=False).shorten_names(["layer1.downsample.bn"], 13) == ["laye...ple.bn"]


def test_clean_spells_out_what_terminals_act_on() -> None:
    assert Charset().clean("a\x1b[31m\n\u202e\x9bγ") == "a\\x1b[31m\\n\\u202e\\x9bγ"
    assert Charset(unicode=False).clean("|γ|/σ ≤ 1 é") == "|gamma|/sigma <= 1 \\xe9"


def test_counted_nouns() -> None:
    assert [plural(1, "batch"), plural(2, "batch"), plural(0, "layer")] == [
        "1 batch",
        "2 batches",
        "0 layers",
    ]
    assert listing(["a", "b", "c"], 3) == "a, b, c"
    assert listing(["a", "b", "c"], 1) == "a and 2 more"


def test_axis_ends_are_round_and_hold_every_channel() -> None:
    axis = axis_for([(0.11, 0.6, 3.1), (0.3, 5.7, 12.3)])
    assert axis == LogAxis(0.1, 20.0)


def test_axis_is_not_stretched_by_a_pruned_channel() -> None:
    axis = axis_for([(1e-30, 1.0, 2.0)])
    assert axis == LogAxis(0.01, 2.0)
    assert draw((1e-30, 1.0, 2.0), axis, 12).startswith("‹")


def test_axis_without_any_positive_gain() -> None:
    assert axis_for([(0, 0, 0)]) is None
    assert axis_for([]) is None


def test_axis_survives_a_diverged_layer() -> None:
    axis = axis_for([(1e-290, 1e-280, 1), (1, 1e290, 1e299)])
    assert axis is not None
    assert draw((1, 1e290, 1e299), axis, 21).endswith("├─────────●")


def test_axis_of_one_value_has_a_length() -> None:
    assert axis_for([(1, 1, 1)]) == LogAxis(0.5, 2.0)


def test_boxes_share_one_axis() -> None:
    axis = LogAxis(0.1, 10.0)
    assert axis.labels(21) == "0.1       1        10"
    assert draw((0.1, 1, 10), axis, 21) == "├─────────●─────────┤"
    assert draw((2, 4, 8), axis, 21) == "          ┊  ├──●──┤ "
    assert draw((1, 1, 1), axis, 21) == "          ●          "
    assert draw((nan, 1, 1), axis, 21) == "          ┊          "


@pytest.mark.parametrize(
    "statement",
    [
        "from bnaudit.render.json_v1 import document_text",
        "from bnaudit.render.text import document_to_text",
        "from bnaudit.render.json_v1 import schema_text; schema_text()",
    ],
)
def test_importing_a_renderer_loads_no_framework(statement: str) -> None:
    heavy = "{'torch', 'numpy', 'onnx', 'rich', 'jsonschema', 'yaml'}"
    code = f"{statement}\nimport sys\nassert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
