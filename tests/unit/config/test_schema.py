"""The editors' schema accepts what the reader accepts, and refuses what it can see is wrong."""

from __future__ import annotations

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from bnaudit.config.options import KEYS
from bnaudit.config.schema import config_schema

from .reading import WITH_THRESHOLDS, from_yaml, refusal

SCHEMA = json.loads(config_schema(WITH_THRESHOLDS))
VALIDATOR = Draft202012Validator(SCHEMA)

GOOD = [
    "data: [a, b]\nlabels: y\nloss: mse\nbatches: 3\nbatch-size: 2\nseed: 1\nmode: running",
    "input-shapes: {x: [8, 30], y: 8x3}\nverify-gradients: all\nmetrics: [twins]\nchannels: true",
    "input-shapes: 8x30\nmetrics: all\nselect: [BN1, few-values]\nignore: BN101\nformat: none",
    "severity: {BN1: info}\nthresholds: {BN299: {mean-drift: 0.2}}\nper-layer: {a: {ignore: []}}",
    "batches:\nthresholds: {BN2: {mean-drift: 3}}",
    "",
]
BAD = [
    "fail_on: error",
    "batches: 0",
    "batches: many",
    "mode: train",
    "metrics: [third]",
    "metrics: []",
    "metrics: ''",
    "input-shapes: [a]",
    "severity: {BN101: fatal}",
    "severity: {nothing: info}",
    "thresholds: {BN299: {other: 1}}",
    "thresholds: {BN299: {mean-drift: -1}}",
    "per-layer: {a: {select: []}}",
    "ignore: [nothing]",
]


@pytest.mark.parametrize("text", GOOD)
def test_both_accept(text: str) -> None:
    from_yaml(text)
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", BAD)
def test_both_refuse(text: str) -> None:
    assert refusal(text)
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


def test_every_key_is_described() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(KEYS)
    assert all(p["description"].endswith(".") for p in SCHEMA["properties"].values())
