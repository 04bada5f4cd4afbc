"""Finding a rule by what a user types."""

from __future__ import annotations

import pytest

from bnaudit.errors import UsageError
from bnaudit.judge.catalogue import catalogue, named
from bnaudit.judge.rules import RULES


def ids(query: str) -> list[str]:
    return [entry.rule.id for entry in named(query)]


def test_the_catalogue_has_all_rules_in_order() -> None:
    found = [entry.rule.id for entry in catalogue().rules]
    assert found == sorted(rule.id for rule in RULES)


@pytest.mark.parametrize("query", ["BN009", "bn009", "dead-gamma", "Dead-Gamma", " BN009 "])
def test_by_id_or_name(query: str) -> None:
    assert ids(query) == ["BN009"]


def test_by_the_beginning_of_an_id() -> None:
    assert ids("BN10") == [rule.id for rule in RULES if rule.id.startswith("BN10")]
    assert set(ids("bn")) == {rule.id for rule in RULES}


@pytest.mark.parametrize(
    ("query", "near"),
    [
        ("dead-gama", "BN009 (dead-gamma)"),
        ("training", "BN004 (training-mode)"),
        ("unusual-eps-", "BN008 (unusual-eps)"),
        ("NB009", "BN009 (dead-gamma)"),
    ],
)
def test_a_typo_is_answered_with_the_nearest(query: str, near: str) -> None:
    with pytest.raises(UsageError, match="no rule") as raised:
        named(query)
    assert near in (raised.value.hint or "")


@pytest.mark.parametrize("query", ["", "zzz", "\x1b[2J"])
def test_nonsense_is_referred_to_the_list(query: str) -> None:
    with pytest.raises(UsageError) as raised:
        named(query)
    assert raised.value.hint == "`bnaudit rules` lists all rules"
