"""What `bnaudit config` prints can be kept as bnaudit.yaml, whatever the values are."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bnaudit.config.effective import Effective, to_json, to_yaml
from bnaudit.config.options import KEYS

from .reading import from_yaml

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40) | st.sampled_from(
    [
        "no",
        "1.10",
        "1e-3",
        "null",
        "~",
        "# x",
        "a: b",
        "x\x1b[31m",
        "'",
        '"',
        "\n",
        "  a  ",
        "é\u2028",
    ]
)
LIMIT = st.floats(0, allow_nan=False, allow_infinity=False) | st.integers(0, 2**60)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "data": st.lists(TEXT, max_size=3).map(tuple),
    "labels": TEXT,
    "loss": TEXT,
    "batches": st.integers(1, 10**9),
    "seed": st.integers(0, 2**32 - 1),
    "layers": TEXT,
    "channels": st.booleans(),
    "ignore": st.lists(st.sampled_from(["BN101", "few-values"]), unique=True).map(tuple),
    "thresholds": st.fixed_dictionaries({"BN299": st.dictionaries(st.just("mean-drift"), LIMIT)}),
    "per-layer": st.dictionaries(TEXT, st.just({"ignore": ("BN101",)}), max_size=2),
    "input-shapes": st.dictionaries(TEXT, st.just("8x3"), min_size=1, max_size=2),
}


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_what_is_printed_reads_back(values: dict[str, Any]) -> None:
    entries = [
        Effective(name, values.get(name, key.default), "bnaudit.yaml:1")
        for name, key in KEYS.items()
    ]
    text = to_yaml("bnaudit.yaml", entries, ["a note"])
    assert all(line.isprintable() for line in text.split("\n"))
    settings = from_yaml(text).settings
    for entry in entries:
        if entry.value is not None:
            assert settings[entry.key].value == entry.value
        else:
            assert entry.key not in settings
    document = json.loads(to_json("bnaudit.yaml", entries, ["a note"]))
    assert list(document["settings"]) == list(KEYS)
