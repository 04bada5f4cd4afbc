"""The rules as documentation: all of them, or those that a user names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from bnaudit.errors import UsageError
from bnaudit.judge.rule import Entry, RuleList
from bnaudit.judge.rules import RULES
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from bnaudit.judge.rule import Rule
    from bnaudit.records.finding import Finding


def catalogue() -> RuleList:
    """All rules, in the order of their ids."""
    rules = sorted(RULES, key=lambda rule: rule.id)
    return RuleList(tuple(Entry(rule, example(rule)) for rule in rules))


def example(rule: Rule) -> Finding | None:
    """What a rule finds in its own sick example."""
    if rule.sick is None:
        return None
    subject = rule.sick()
    if isinstance(subject, Inspection):
        found = rule.inspect(rule, subject) if rule.inspect else ()
    else:
        found = rule.check(rule, subject) if rule.check else ()
    return next(iter(found), None)


def named(query: str) -> tuple[Entry, ...]:
    """The rules of an id, a name, or the beginning of an id, in any case.

    Args:
        query: "BN009", "dead-gamma", "bn01".

    Raises:
        UsageError: there is none; the hint has the nearest.
    """
    wanted = query.strip().lower()
    rules = sorted(RULES, key=lambda rule: rule.id)
    exact = [rule for rule in rules if wanted in (rule.id.lower(), rule.name)]
    found = exact or [rule for rule in rules if wanted and rule.id.lower().startswith(wanted)]
    if found:
        return tuple(Entry(rule, example(rule)) for rule in found)
    raise UsageError(f"no rule {query!r}", hint=_hint(wanted))


def _hint(wanted: str) -> str:
    known = {rule.name: rule for rule in RULES} | {rule.id.lower(): rule for rule in RULES}
    near = get_close_matches(wanted, known, n=3, cutoff=0.5)
    if not near:
        return "`bnaudit rules` lists all rules"
    rules = list(dict.fromkeys(known[match] for match in near))
    return f"did you mean {' or '.join(f'{rule.id} ({rule.name})' for rule in rules)}?"
