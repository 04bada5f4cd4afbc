"""Kinds of values that speak of rules: which run, how severely, with which thresholds, where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.config.kinds import (
    NOTHING,
    Kind,
    Word,
    entries_of,
    mapping_of,
    number_of,
    parts,
    text_of,
)
from bnaudit.config.tree import did_you_mean
from bnaudit.errors import UsageError
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.config.kinds import Context, Schema
    from bnaudit.config.tree import Node
    from bnaudit.judge.rule import Rule

SEVERITIES = tuple(severity.label for severity in sorted(Severity, reverse=True))


def names_rule(entry: str, rules: Sequence[Rule]) -> bool:
    """Whether an entry is a rule's id or name, or a prefix of ids of at least "BN"."""
    from bnaudit.judge.policy import matches  # imports every rule: not for --help

    return len(entry) >= len("BN") and any(matches(entry, rule) for rule in rules)


def nearest_rule(entry: str, rules: Sequence[Rule]) -> str:
    """`, did you mean 'BN101'?`, by id or by name."""
    return did_you_mean(entry, [name for rule in rules for name in (rule.id, rule.name)])


RULES_HINT = (
    "rules are given by id (BN101), by name (integrity) or by the beginning of the id (BN1)"
)


def rule_of(entry: str, line: int, context: Context) -> str:
    """The entry, which has to name a rule."""
    if not names_rule(entry, context.rules):
        context.source.refuse(
            line,
            f"{context.key}: no rule {entry!r}{nearest_rule(entry, context.rules)}",
            RULES_HINT,
        )
    return entry


def _one_rule(rules: tuple[Rule, ...]) -> Schema:
    known = [name for rule in rules for name in (rule.id, rule.name)]
    return {"anyOf": [{"enum": known}, {"type": "string", "pattern": "^BN[0-9]*$"}]}


def _some_rules(rules: tuple[Rule, ...]) -> Schema:
    one = _one_rule(rules)
    return {"anyOf": [{"type": "array", "items": one}, {"type": "string"}]}


class FailOn(Word):
    """A severity, or never, which is None in a field."""

    def __init__(self) -> None:
        super().__init__((*SEVERITIES, "never"))

    def accept(self, name: str, value: Any) -> Severity | None:
        """See `Kind.accept`."""
        if value is None or isinstance(value, int):
            return value if value is None else Severity(value)
        if value not in self.known:
            raise UsageError(f"unknown {name} {value!r}", hint=self.wanted)
        return None if value == "never" else Severity[value.upper()]


class Rules(Kind):
    """A list of rules."""

    metavar = "RULES"
    wanted = "a list of rules"
    empty = ()
    repeated = True

    @property
    def known(self) -> tuple[str, ...]:
        """What a shell completes."""
        from bnaudit.judge.rules import RULES

        return tuple(name for rule in RULES for name in (rule.id, rule.name))

    def typed(self, text: str) -> tuple[str, ...]:
        """`BN101,few-values` -> entries, each of which names a rule there is."""
        from bnaudit.judge.rules import RULES

        for entry in parts(text):
            if not names_rule(entry, RULES):
                raise ValueError(f"no rule {entry!r}{nearest_rule(entry, RULES)}")
        return parts(text)

    def join(self, values: tuple[Any, ...]) -> tuple[str, ...]:
        """See `Kind.join`; a file's entries come one by one, a command line's by the comma."""
        each = (value if isinstance(value, tuple) else (value,) for value in values)
        return tuple(dict.fromkeys(entry for entries in each for entry in entries))

    def read(self, node: Node, context: Context) -> tuple[str, ...]:
        """See `Kind.read`."""
        found = entries_of(node, context, self.wanted)
        return tuple(dict.fromkeys(rule_of(entry, item.line, context) for entry, item in found))

    def schema(self, rules: tuple[Rule, ...]) -> Schema:
        """See `Kind.schema`."""
        return _some_rules(rules)


class Severities(Kind):
    """Rule -> severity of all its findings."""

    empty = NOTHING
    wanted = "a mapping of rules to severities"

    def read(self, node: Node, context: Context) -> dict[str, str]:
        """See `Kind.read`."""
        found = {}
        for entry, item in mapping_of(node, context, self.wanted).items():
            rule_of(entry, item.key_line, context)
            inside = context.inside(entry)
            severity = text_of(item, inside, f"one of {', '.join(SEVERITIES)}")
            if severity not in SEVERITIES:
                inside.source.refuse(
                    item.line,
                    f"{inside.key}: unknown severity {severity!r}{did_you_mean(severity, SEVERITIES)}",
                    f"one of: {', '.join(SEVERITIES)}; `ignore` silences a rule",
                )
            found[entry] = severity
        return found

    def schema(self, rules: tuple[Rule, ...]) -> Schema:
        """See `Kind.schema`."""
        return {
            "type": "object",
            "propertyNames": _one_rule(rules),
            "additionalProperties": {"enum": list(SEVERITIES)},
        }


class Thresholds(Kind):
    """Rule -> name of one of its thresholds -> value."""

    empty = NOTHING
    wanted = "a mapping of rules to their thresholds"

    def read(self, node: Node, context: Context) -> dict[str, dict[str, float]]:
        """See `Kind.read`."""
        found: dict[str, dict[str, float]] = {}
        for entry, item in mapping_of(node, context, self.wanted).items():
            rule_of(entry, item.key_line, context)
            inside = context.inside(entry)
            known = _threshold_names(entry, context.rules)
            if not known:
                context.source.refuse(item.key_line, f"{inside.key}: the rule has no thresholds")
            values = mapping_of(item, inside, f"a mapping with {', '.join(known)}")
            for name, value in values.items():
                if name not in known:
                    inside.unknown(value.key_line, f"threshold of {entry}", name, known)
            found[entry] = {
                name: _threshold(value, inside.inside(name)) for name, value in values.items()
            }
        return found

    def schema(self, rules: tuple[Rule, ...]) -> Schema:
        """See `Kind.schema`."""
        properties = {
            name: {
                "type": "object",
                "properties": {
                    t.name: {**_NUMBER, "default": t.value, "description": t.meaning}
                    for t in rule.thresholds
                },
                "additionalProperties": False,
            }
            for rule in rules
            if rule.thresholds
            for name in (rule.id, rule.name)
        }
        return {
            "type": "object",
            "properties": properties,
            "patternProperties": {
                "^BN[0-9]{0,2}$": {"type": "object", "additionalProperties": _NUMBER}
            },
            "additionalProperties": False,
        }


_NUMBER: Schema = {"type": "number", "minimum": 0}


def _threshold(node: Node, context: Context) -> float:
    """Sizes, shares, ratios and distances: none of them is below zero."""
    value = number_of(node, context)
    if value < 0:
        context.wrong(node, "a number from 0 on")
    return value


def _threshold_names(entry: str, rules: Sequence[Rule]) -> list[str]:
    from bnaudit.judge.policy import matches

    names = [t.name for rule in rules if matches(entry, rule) for t in rule.thresholds]
    return list(dict.fromkeys(names))


_EXCUSES = ("ignore",)


class PerLayer(Kind):
    """Pattern of layer labels -> what holds at these layers."""

    empty = NOTHING
    wanted = "a mapping of layer patterns to {ignore: [rules]}"

    def read(self, node: Node, context: Context) -> dict[str, dict[str, Any]]:
        """See `Kind.read`."""
        found: dict[str, dict[str, Any]] = {}
        for pattern, item in mapping_of(node, context, self.wanted).items():
            inside = context.inside(pattern)
            given = mapping_of(item, inside, "a mapping with the key ignore")
            for key, value in given.items():
                if key not in _EXCUSES:
                    inside.unknown(value.key_line, f"key in {inside.key}:", key, list(_EXCUSES))
            found[pattern] = {
                key: Rules().read(value, inside.inside(key)) for key, value in given.items()
            }
        return found

    def schema(self, rules: tuple[Rule, ...]) -> Schema:
        """See `Kind.schema`."""
        return {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"ignore": _some_rules(rules)},
                "additionalProperties": False,
            },
        }
