"""The rules, listed explicitly: a new rule is one file here and one line in `RULES`."""

from bnaudit.judge.rule import Rule
from bnaudit.judge.rules import (
    few_values,
    finite_difference,
    integrity,
    minimax,
    no_batchnorm,
    not_executed,
    second_order_verification,
)

RULES: tuple[Rule, ...] = (
    no_batchnorm.RULE,
    not_executed.RULE,
    integrity.RULE,
    few_values.RULE,
    finite_difference.RULE,
    minimax.RULE,
    second_order_verification.RULE,
)
