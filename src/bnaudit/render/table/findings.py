"""What the rules found, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from bnaudit.render.table.grid import SEVERITY_STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.render.table.text import Charset

_INDENT = len("warning BN000 ")


def finding_blocks(findings: Sequence[Finding], charset: Charset) -> list[tuple[Text, Text]]:
    """(head, body) of each paragraph; the page wraps bodies beside their heads.

    A run of findings of one rule with one remedy names the remedy once, under the last of them. Known
    findings come last.
    """
    blocks: list[tuple[Text, Text]] = []
    findings = sorted(findings, key=lambda finding: finding.status == "known")
    for finding, following in zip(findings, (*findings[1:], None), strict=True):
        head = f"{finding.severity.label:<7} {charset.clean(finding.rule)} "
        style = "dim" if finding.status == "known" else SEVERITY_STYLE[finding.severity]
        blocks.append((Text(head, style=style), _fact(finding, charset)))
        if following is None or (following.rule, following.fix) != (finding.rule, finding.fix):
            fix = Text(" " * _INDENT).append("fix: ", style="green")
            blocks.append((fix, Text(charset.clean(finding.fix))))
    return blocks


def _fact(finding: Finding, charset: Charset) -> Text:
    body = Text()
    body.append(charset.clean(finding.layer or "model"), style="bold")
    body.append(f": {charset.clean(finding.message)} ")
    status = f", {finding.status}" if finding.status else ""
    body.append(f"[{charset.clean(finding.name)}{status}]", style="dim")
    if finding.status == "known":
        body.stylize("dim")
    return body
