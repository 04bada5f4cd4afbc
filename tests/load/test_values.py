"""What is typed on a command line becomes what its author meant."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bnaudit.errors import UsageError
from bnaudit.values import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-3", -3), ("+4", 4), ("0", 0), ("1e-3", 0.001), (".5", 0.5), ("1.", 1.0),
        ("true", True), ("False", False), ("none", None), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("on", "on"), ("007", "007"), ("1_000", "1_000"), ("²", "²"),
        ("a: b", "a: b"), ("resnet 18", "resnet 18"), ('"12"', "12"), ("'none'", "none"),
        ("[1, 2.5, a]", [1, 2.5, "a"]), ("[]", []), ("[[1], [none]]", [[1], [None]]),
        ("['1', 1]", ["1", 1]), ("{a: 1, b: [true]}", {"a": 1, "b": [True]}), ("inf", math.inf),
    ],
)  # fmt: skip
def test_texts_and_what_they_mean(text: str, value: Any) -> None:
    found = parse(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["[1,", "{a: ", "'a", "[1]]"])
def test_what_is_not_closed_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse(text)


def test_no_code_is_made_of_it() -> None:
    with pytest.raises(UsageError):
        parse("[!!python/object/apply:os.system ['true'], 1")
    assert parse("[!!python/object/apply:os.system ['true']]") == [["true"]]
