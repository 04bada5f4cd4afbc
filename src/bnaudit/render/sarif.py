"""SARIF 2.1.0 (OASIS Standard), as code-scanning services take it.

GitHub shows no result without a physical location with a region, and merges results of one rule on one
line unless fingerprints tell them apart: a model file is one line long to it, so every result carries
a fingerprint of rule and layer.
"""

from __future__ import annotations

import json
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bnaudit._version import __version__
from bnaudit.judge.rules import RULES
from bnaudit.records.finding import Severity
from bnaudit.records.fleet import Fleet
from bnaudit.render.outcome import artifact_path, outcome_of, outcome_of_row, sentence_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.judge.rule import Rule
    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report
    from bnaudit.render.outcome import Outcome

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

Json = dict[str, Any]

_BASELINE_STATES = {"new": "new", "worse": "updated", "known": "unchanged"}
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def report_to_sarif(report: Report | InspectionReport | Fleet) -> str:
    """One SARIF log with one run. Pure ASCII, strict JSON, the same bytes for the same report.

    Of a fleet each model is an artifact and an invocation.
    """
    if isinstance(report, Fleet):
        outcomes: Iterable[Outcome] = (outcome_of_row(row, report.fail_on) for row in report.rows)
    else:
        outcomes = (outcome_of(report),)
    results, invocations, artifacts = [], [], []
    for index, outcome in enumerate(outcomes):
        results += [_result(finding, outcome, index) for finding in outcome.findings]
        for entry in outcome.suppressed:
            silenced = [{"kind": "external", "justification": entry.by}]
            results.append(_result(entry.finding, outcome, index) | {"suppressions": silenced})
        invocations.append(_invocation(outcome, index))
        location = {"uri": _uri(outcome.path)}
        artifacts.append({"location": location, "roles": ["analysisTarget"]})
    run: Json = {
        "tool": {
            "driver": {
                "name": "bnaudit",
                "version": __version__,
                "rules": [_descriptor(rule) for rule in RULES],
            }
        },
        "invocations": invocations,
        "artifacts": artifacts,
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    log: Json = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _descriptor(rule: Rule) -> Json:
    links = "".join(f"\n- {url}" for url in rule.references)
    text = f"{rule.why}\n\nFix: {rule.fix}"
    descriptor: Json = {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": text,
            "markdown": f"{rule.why}\n\n**Fix:** {rule.fix}\n\n`bnaudit explain {rule.id}`{links}",
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": ["batchnorm", rule.needs.value]},
    }
    if rule.references:
        descriptor["helpUri"] = rule.references[0]
    return descriptor


def _result(finding: Finding, outcome: Outcome, artifact: int) -> Json:
    location: Json = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(outcome.path), "index": artifact},
            "region": {"startLine": 1},
        }
    }
    if finding.layer is not None:
        location["logicalLocations"] = [
            {"name": finding.layer, "fullyQualifiedName": finding.layer, "kind": "module"}
        ]
    identity = "\0".join((finding.rule, finding.layer or ""))
    digest = sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    interval = finding.interval
    result: Json = {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": sentence_of(finding)},
        "locations": [location],
        "partialFingerprints": {
            "bnaudit/v1": digest,
            "primaryLocationLineHash": f"{digest[:16]}:1",
        },
        "properties": {
            "observed": finite(finding.observed),
            "threshold": finite(finding.threshold),
            "interval": None if interval is None else [finite(bound) for bound in interval],
            "channels": list(finding.channels),
            "confidence": finding.confidence,
            "fix": finding.fix,
        },
    }
    if finding.status is not None:
        result["baselineState"] = _BASELINE_STATES[finding.status]
    index = next((i for i, rule in enumerate(RULES) if rule.id == finding.rule), None)
    return result if index is None else {"ruleIndex": index, **result}


def _invocation(outcome: Outcome, artifact: int) -> Json:
    invocation: Json = {
        "executionSuccessful": outcome.failure is None,
        "exitCode": outcome.exit_code,
    }
    if outcome.failure is not None:
        hint = f" ({outcome.failure.hint})" if outcome.failure.hint else ""
        text = f"{outcome.failure.message}{hint}"
        notification: Json = {"level": "error", "message": {"text": text}}
        if outcome.command == "fleet":  # one of many: which
            place = {"artifactLocation": {"uri": _uri(outcome.path), "index": artifact}}
            notification["locations"] = [{"physicalLocation": place}]
        invocation["toolExecutionNotifications"] = [notification]
    if outcome.rules_not_run:
        invocation["toolConfigurationNotifications"] = [
            {
                "level": "note",
                "message": {"text": f"{entry.rule} {entry.name} did not run: {entry.reason}"},
                "associatedRule": {"id": entry.rule},
            }
            for entry in outcome.rules_not_run
        ]
    return invocation


def _uri(path: str) -> str:
    """A relative reference, or a file URI for an absolute path (RFC 3986: reserved letters escaped)."""
    text = artifact_path(path)
    quoted = quote(text.encode("utf-8", "surrogatepass"), safe="/")
    if text.startswith("/"):
        return f"file://{quoted}"
    if len(text) > 1 and text[1] == ":":  # a Windows drive
        return f"file:///{quoted}"
    return quoted


def finite(value: float | None) -> float | None:
    """The number, or None where JSON has no way to write it."""
    return value if value is not None and isfinite(value) else None
