"""Every key takes what it should, and refuses the rest with its line and the nearest name."""

from __future__ import annotations

from typing import Any

import pytest

from bnaudit.cli.check import command as check
from bnaudit.config.options import KEYS, LOOKS
from bnaudit.config.policy import policy_of
from bnaudit.errors import ConfigError
from bnaudit.judge.policy import LayerPolicy
from bnaudit.metrics import METRICS
from bnaudit.records.finding import Severity

from .reading import from_toml, from_yaml, refusal

PERSONAL = {"color", "progress", "quiet", "verbose", "models", "config", "no_config", "help"}
"""Options that say how one person wants to see a run: a project's configuration has no say."""
OF_ONE_MODEL = {"weights", "entry", "kwargs", "strict", "inputs"}
"""Options without which the one model on the command line cannot be loaded or called."""
CONSENT = {"trust"}
"""What runs code of a file has to be typed: a file that lies about must not give itself leave."""


def value(text: str) -> Any:
    (setting,) = from_yaml(text).settings.values()
    return setting.value


def test_every_option_of_check_has_its_key() -> None:
    options = {p.name for p in check.params} - PERSONAL - OF_ONE_MODEL - CONSENT - {*LOOKS}
    assert options == {key.parameter for key in KEYS.values()} - {None}


def test_defaults_are_those_of_the_command_line() -> None:
    with check.make_context("check", ["model.onnx", "--no-config"]) as ctx:
        for name, key in KEYS.items():
            if key.parameter is not None:
                assert ctx.params[key.parameter] == key.default, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a.npz", ("a.npz",)),
        ("data: [a.npz, x=b.npy]", ("a.npz", "x=b.npy")),
        ("labels: y", "y"),
        ("labels: '1'", "1"),
        ("loss: mse", "mse"),
        ("batches: 4", 4),
        ("batch-size: 1_000", 1000),
        ("seed: 0", 0),
        ("dtype: float64", "float64"),
        ("verify-gradients: all", "all"),
        ("verify-gradients: 3", 3),
        ("metrics: all", tuple(METRICS)),
        ("metrics: first_order, twins", ("first_order", "twins")),
        ("metrics: [twins, twins]", ("twins",)),
        ("layers: layer4.*", "layer4.*"),
        ("layers: 1.10", "1.10"),
        ("twins: 3", "3"),
        ("channels: yes", True),
        ("input-shapes: 8x3x32x32", {"": "8x3x32x32"}),
        ("input-shapes: [8, 30]", {"": "8x30"}),
        ("input-shapes: {x: [8, 30], m: 8X1}", {"x": "8x30", "m": "8x1"}),
        ("output: [a.json, b.txt]", ("a.json", "b.txt")),
        ("fail-on: never", "never"),
        ("select: BN1", ("BN1",)),
        ("ignore: few-values, BN103", ("few-values", "BN103")),
        ("severity: {BN102: error, integrity: info}", {"BN102": "error", "integrity": "info"}),
        ("thresholds: {wandering: {mean-drift: 1e-3}}", {"wandering": {"mean-drift": 0.001}}),
        ("thresholds: {BN2: {least-values: 4}}", {"BN2": {"least-values": 4}}),
        ("per-layer: {0.10: {ignore: BN1}}", {"0.10": {"ignore": ("BN1",)}}),
        ("per-layer: {'head.*': {}}", {"head.*": {}}),
    ],
)
def test_values(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fail_on: error", "1: unknown key 'fail_on', did you mean 'fail-on'?"),
        ("a: 1\nb: 2", "1: unknown key 'a'"),
        ("seed: 0\n\nbatchsize: 2", "3: unknown key 'batchsize', did you mean 'batch-size'?"),
        ("THRESHOLDS: {}", "1: unknown key 'THRESHOLDS', did you mean 'thresholds'?"),
        ("on: error", "1: unknown key 'on'"),
        (
            "batches: many",
            "1: batches has to be a whole number of at least 1 or 'auto', not 'many'",
        ),
        ("batches: 0", "1: batches has to be a whole number of at least 1 or 'auto', not 0"),
        ("batches: 2.0", "not 2.0"),
        ("batches: true", "not the boolean true"),
        ("batches: '2'", "not '2'"),
        ("batches: 010", "not '010'"),
        ("batches: 1:30", "not '1:30'"),
        ("batches: 0x10", "not '0x10'"),
        ("batches: 1_", "not '1_'"),
        ("batches: 1__0", "not '1__0'"),
        (f"seed: {'9' * 5000}", "1: seed has to be a whole number from 0 to 4294967295, not '999"),
        ("seed: -1", "1: seed has to be a whole number from 0 to 4294967295, not -1"),
        ("verify-gradients: most", "a whole number of at least 0 or 'all', not 'most'"),
        ("dtype: float23", "1: unknown dtype 'float23', did you mean 'float32'?"),
        ("mode: train", "1: unknown mode 'train'"),
        ("format: off", "not the boolean false (YAML reads off so)"),
        (
            "loss: no",
            "1: loss has to be a name, or file.py:function, not the boolean false (YAML reads no so)",
        ),
        ("labels: ''", "1: labels has to be a key of the data, or a path, not ''"),
        (
            "metrics: [first_order,\n  third_order]",
            "2: unknown metrics 'third_order', did you mean",
        ),
        ("seed: 0\nmetrics: []", "2: metrics has to be a list of first_order, second_order, "),
        ("metrics: []", "or all, not an empty list"),
        ("metrics: ''", "or all, not ''"),
        ("metrics: [',']", "or all, not "),
        ("channels: 1", "1: channels has to be true or false, not 1"),
        ("channels: 'yes'", "1: channels has to be true or false, not 'yes'"),
        ("data: {x: y}", "1: data has to be a path, or a list of paths, not a mapping"),
        ("data: [[a]]", "not a list"),
        ("data: [a, ~]", "not nothing"),
        ("input-shapes: {x: [8, -3]}", "1: input-shapes.x has to be a shape"),
        ("input-shapes: []", "input-shapes has to be a shape"),
        (f"input-shapes: 8x{'9' * 5000}", "input-shapes has to be a shape"),
        ("input-shapes: 8xx3", "input-shapes has to be a shape"),
        ("select: BN9", "1: select: no rule 'BN9'"),
        ("ignore: [few-value]", "1: ignore: no rule 'few-value', did you mean 'few-values'?"),
        ("ignore: B", "1: ignore: no rule 'B'"),
        ("ignore: {BN101: x}", "1: ignore has to be a list of rules, not a mapping"),
        ("severity: error", "1: severity has to be a mapping of rules to severities, not 'error'"),
        ("severity:\n  BN101: fatal", "2: severity.BN101: unknown severity 'fatal'"),
        ("severity: {BN101: off}", "severity.BN101 has to be one of error, warning, info, not the"),
        ("severity: {BN1010: info}", "1: severity: no rule 'BN1010', did you mean 'BN101'?"),
        ("thresholds: {BN001: {x: 1}}", "1: thresholds.BN001: the rule has no thresholds"),
        (
            "thresholds:\n  BN299:\n    mean_drift: 1",
            "3: unknown threshold of BN299 'mean_drift', did you mean 'mean-drift'?",
        ),
        (
            "thresholds: {BN299: {mean-drift: -1}}",
            "mean-drift has to be a number from 0 on, not -1",
        ),
        ("thresholds: {BN299: {mean-drift: .inf}}", "has to be a number, not inf"),
        ("thresholds: {BN299: {mean-drift: '1'}}", "has to be a number, not '1'"),
        ("thresholds: {BN299: {mean-drift: true}}", "has to be a number, not the boolean true"),
        ("thresholds: {BN299: 1}", "1: thresholds.BN299 has to be a mapping with mean-drift, l"),
        ("per-layer: [x]", "1: per-layer has to be a mapping of layer patterns"),
        (
            "per-layer:\n  head.*:\n    ignroe: []",
            "3: unknown key in per-layer.head.*: 'ignroe', did you mean 'ignore'?",
        ),
        ("per-layer: {h: {ignore: BN9}}", "1: per-layer.h.ignore: no rule 'BN9'"),
        ("just text", "1: the configuration has to be a mapping, not 'just text'"),
        ("- data", "1: the configuration has to be a mapping, not a list"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_key_without_a_value_is_as_good_as_absent() -> None:
    assert from_yaml("batches:\nlabels: null\ndata: ~").settings == {}
    assert from_yaml("").settings == from_yaml("# nothing").settings == {}


def test_a_number_of_any_length_is_refused_in_toml_too() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        from_toml(f"[tool.bnaudit]\nseed = {'9' * 5000}")


def test_toml_says_the_same() -> None:
    config = from_toml(
        '[tool.other]\nx = 1\n[tool.bnaudit]\nfail-on = "warning"\nbatches = 3\n'
        'input-shapes = { x = [8, 30] }\n[tool.bnaudit.per-layer."head.*"]\nignore = ["BN101"]\n'
        "[tool.bnaudit.thresholds]\nBN299.mean-drift = 1\n"
    )
    values = {key: setting.value for key, setting in config.settings.items()}
    assert values == {
        "fail-on": "warning",
        "batches": 3,
        "input-shapes": {"x": "8x30"},
        "per-layer": {"head.*": {"ignore": ("BN101",)}},
        "thresholds": {"BN299": {"mean-drift": 1}},
    }
    assert config.settings["fail-on"].origin == "pyproject.toml:4"
    assert config.settings["per-layer"].origins[("head.*", "ignore")] == "pyproject.toml:8"
    assert config.settings["thresholds"].origins[("BN299", "mean-drift")] == "pyproject.toml:10"


def test_the_policy_is_made_of_it() -> None:
    config = from_yaml(
        "severity: {BN101: warning}\nthresholds: {wandering: {mean-drift: 2}}\n"
        "per-layer: {'head.*': {ignore: [BN102]}}"
    )
    policy = policy_of(config, ["BN1"], ["BN103"])
    assert (policy.select, policy.ignore) == (("BN1",), ("BN103",))
    assert policy.severities == {"BN101": Severity.WARNING}
    assert policy.thresholds == {"wandering": {"mean-drift": 2}}
    assert policy.layers == (LayerPolicy("head.*", ("BN102",)),)


def test_keys_are_written_as_in_other_linters() -> None:
    assert all(name == name.lower() and "_" not in name for name in KEYS)
