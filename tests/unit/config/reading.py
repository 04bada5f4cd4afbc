"""A configuration from text, as if it stood in bnaudit.yaml or pyproject.toml."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnaudit.config import Config, read_config
from bnaudit.config.find import Found
from bnaudit.config.toml_tree import parse_pyproject
from bnaudit.config.tree import Source
from bnaudit.config.yaml_tree import parse_yaml
from bnaudit.errors import ConfigError
from bnaudit.judge.rule import Rule, Threshold
from bnaudit.judge.rules import RULES

LIMITED = replace(
    RULES[-1],
    id="BN299",
    name="wandering",
    thresholds=(
        Threshold("mean-drift", 0.5, "in sigmas", "measured"),
        Threshold("least-values", 16.0, "values", "derived"),
    ),
)
WITH_THRESHOLDS: tuple[Rule, ...] = (*RULES, LIMITED)


def from_yaml(text: str, folder: str = "") -> Config:
    source = Source("bnaudit.yaml", folder)
    return read_config(Found(source, parse_yaml(text, source)), WITH_THRESHOLDS)


def from_toml(text: str) -> Config:
    source = Source("pyproject.toml")
    tree = parse_pyproject(text, source)
    assert tree is not None
    return read_config(Found(source, tree), WITH_THRESHOLDS)


def refusal(text: str) -> str:
    """The one line with which a YAML configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message
