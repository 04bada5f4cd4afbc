"""YAML's traps: duplicate keys, tags, bombs, aliases, documents, encodings."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnaudit.config.tree import Source
from bnaudit.config.yaml_tree import MOST_NODES, parse_yaml
from bnaudit.errors import ConfigError

from .reading import from_yaml, refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "bnaudit.yaml:2: key 'seed' is given twice (first in line 1)"),
        ("severity: {BN101: info, BN101: error}", "key 'BN101' is given twice"),
        ("seed: 1\n---\nseed: 2", "bnaudit.yaml:3: a second YAML document"),
        (
            "data: !!python/object/apply:os.system [ls]",
            "1: the tag !!python/object/apply:os.system",
        ),
        ("data: !include other.yaml", "1: the tag !include is not allowed"),
        ("data: !!binary aGk=", "1: the tag !!binary is not allowed"),
        ("data: !!set {a}", "1: the tag !!set is not allowed"),
        ("? [a, b]\n: c", "1: a key has to be plain text"),
        ("data: &a [*a]", "1: an alias inside its own anchor"),
        ("seed: 1\n\tbatches: 2", "2: not valid YAML"),
        ("layers: *.bn", "1: not valid YAML"),
        ("labels: a: b", "1: not valid YAML: mapping values are not allowed here"),
        ("data: [a", "not valid YAML"),
        ("data: \x07", "not valid YAML"),
        ("<<: 3", "1: << merges mappings only"),
        ("[" * 200, "1: nested more than 20 levels deep"),
        ("a: " * 50, "not valid YAML"),
    ],
)
def test_refused(text: str, message: str) -> None:
    assert message in refusal(text)


def test_anchors_and_merges_are_taken() -> None:
    config = from_yaml(
        "per-layer:\n  a: &quiet {ignore: [BN101]}\n  b: *quiet\n  c: {<<: *quiet}\n"
        "  d: {<<: [*quiet], ignore: [BN102]}"
    )
    silent = {name: given["ignore"] for name, given in config.settings["per-layer"].value.items()}
    assert silent == {"a": ("BN101",), "b": ("BN101",), "c": ("BN101",), "d": ("BN102",)}


def test_bombs_end_quickly() -> None:
    laughs = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    start = time.process_time()
    assert f"aliases expand to more than {MOST_NODES} values" in refusal(laughs)
    assert "nested more than" in refusal("[" * 500_000)
    assert f"more than {MOST_NODES} values" in refusal("data: [" + "a," * 3 * MOST_NODES + "]")
    assert time.process_time() - start < 30


@settings(deadline=None)
@given(st.text(max_size=80) | st.text("ab:-[]{}&*!|>'\"#%@,\n\t <~?\\", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    source = Source("bnaudit.yaml")
    with suppress(ConfigError):
        assert parse_yaml(text, source).line >= 0


def test_a_quoted_word_is_never_a_boolean() -> None:
    assert from_yaml("labels: 'no'").settings["labels"].value == "no"
    assert from_yaml("per-layer: {on: {}}").settings["per-layer"].value == {"on": {}}
