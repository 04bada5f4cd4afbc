"""The rules, listed explicitly: a new rule is one file here and one line in `RULES`."""

from bnaudit.judge.rule import Rule
from bnaudit.judge.rules import (
    constant_channels,
    dead_gradient,
    few_values,
    finite_difference,
    gradient_scale,
    integrity,
    mean_drift,
    minimax,
    no_batchnorm,
    not_executed,
    not_finite,
    small_projection,
    variance_drift,
    worse_than_guessing,
)

RULES: tuple[Rule, ...] = (
    no_batchnorm.RULE,
    not_executed.RULE,
    integrity.RULE,
    few_values.RULE,
    finite_difference.RULE,
    minimax.RULE,
    mean_drift.RULE,
    variance_drift.RULE,
    dead_gradient.RULE,
    gradient_scale.RULE,
    small_projection.RULE,
    constant_channels.RULE,
    not_finite.RULE,
    worse_than_guessing.RULE,
)
