"""BN020: the file has one BatchNorm in several places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.drift_text import listed
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import activations
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = activations(inspection)
    told: set[str] = set()
    hits = []
    for bn in layers:
        if not bn.places or bn.name in told:
            continue
        told.update(bn.places)
        hits.append(
            Hit(
                bn.name,
                f"its running statistics are used in {len(bn.places) + 1} places: also "
                f"{listed(list(bn.places))}",
                rule.severity,
                float(len(bn.places) + 1),
                1.0,
            )
        )
    yield from findings(rule, hits, len(layers), "stand in several places")


RULE = Rule(
    id="BN020",
    name="several-places",
    severity=Severity.INFO,
    needs=Needs.FILE,
    summary="Lists BatchNorms whose running statistics are stored once and used in several places: one "
    "module behind two names, one storage behind two tensors, several nodes or calls.",
    why="Sharing is meant where the inputs are alike. Where they are not, the one average fits none of them "
    "(BN210 measures it), and whatever changes it for one place changes it for all.",
    fix="none where the inputs are alike (bnaudit check --data); else a BatchNorm for each place",
    inspect=_inspect,
    not_applicable=lambda subject: (
        "there are no BatchNorm layers"
        if isinstance(subject, Inspection) and not subject.batchnorms
        else None
    ),
    healthy=examples.inspection,
    sick=lambda: examples.changed("block1.bn", places=("block2.shared",)),
)
