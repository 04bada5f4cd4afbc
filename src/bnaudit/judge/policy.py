"""What a configuration changes about the rules: which run, how strictly, and where they are silent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bnaudit.judge.rule import Rule
    from bnaudit.records.finding import Finding, Severity


@dataclass(frozen=True, slots=True)
class LayerPolicy:
    """Rules that are silent at some layers.

    Attributes:
        pattern: shell-style pattern of layer labels.
        ignore: rule ids or names.
    """

    pattern: str
    ignore: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """How to judge. Rules are given by id, by name, or by a prefix of the id ("BN1").

    Attributes:
        select: the only rules to run; empty for all.
        ignore: rules whose findings are suppressed (counted and shown, but no verdict).
        severities: rule -> severity of all its findings.
        thresholds: rule -> threshold name -> value.
        layers: rules suppressed at some layers.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    layers: tuple[LayerPolicy, ...] = ()

    def selected(self, rules: Iterable[Rule]) -> list[Rule]:
        """The rules that run, with their configured thresholds."""
        return [self._configured(r) for r in rules if not self.select or _any(self.select, r)]

    def _configured(self, rule: Rule) -> Rule:
        own = {
            name: value
            for key, values in self.thresholds.items()
            if matches(key, rule)
            for name, value in values.items()
        }
        if not own:
            return rule
        limits = tuple(replace(t, value=own.get(t.name, t.value)) for t in rule.thresholds)
        return replace(rule, thresholds=limits)

    def graded(self, rule: Rule, finding: Finding) -> Finding:
        """The finding at its configured severity; the most specific entry wins."""
        keys = [key for key in self.severities if matches(key, rule)]
        if not keys:
            return finding
        return replace(finding, severity=self.severities[max(keys, key=len)])

    def silenced_by(self, rule: Rule, finding: Finding) -> str | None:
        """What suppresses the finding, as the user wrote it, or None."""
        for entry in self.ignore:
            if matches(entry, rule):
                return f"ignore: {entry}"
        for layer in self.layers:
            if finding.layer is None or not fnmatchcase(finding.layer, layer.pattern):
                continue
            for entry in layer.ignore:
                if matches(entry, rule):
                    return f"layers {layer.pattern!r}: {entry}"
        return None

    def unmatched(self, labels: Iterable[str]) -> tuple[str, ...]:
        """One sentence for each pattern that fits no layer: a typing error would excuse nothing.

        Args:
            labels: of all layers.
        """
        known = tuple(labels)
        return tuple(
            f"the configuration's per-layer pattern {layer.pattern!r} fits no layer"
            for layer in self.layers
            if not any(fnmatchcase(label, layer.pattern) for label in known)
        )


DEFAULT_POLICY = Policy()


def matches(entry: str, rule: Rule) -> bool:
    """Whether an entry of a configuration means this rule."""
    return entry == rule.name or rule.id.startswith(entry)


def _any(entries: Iterable[str], rule: Rule) -> bool:
    return any(matches(entry, rule) for entry in entries)
