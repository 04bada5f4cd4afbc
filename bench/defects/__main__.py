"""The whole suite, a minute on one core.

python -m bench.defects             what was found, case by case
python -m bench.defects --long      with the findings' text
python -m bench.defects --write     the tables of docs/defects.md
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.defects.run import FAMILIES, LIMITS, alarms, contradictions, measurable, outcomes

if TYPE_CHECKING:
    from bench.defects.run import Alarm, Outcome

DOC = Path(__file__).resolve().parents[2] / "docs" / "defects.md"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Run the suite of injected defects.")
    parser.add_argument("--long", action="store_true", help="print the findings' text as well")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/defects.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for outcome in outcomes():
        found.append(outcome)
        print(_line(outcome, long=options.long), flush=True)
    beyond = list(outcomes(("beyond reach", defect) for defect in LIMITS))
    said = list(alarms())
    for alarm in said:
        for f in alarm.findings:
            print(f"ALARM {alarm.change.name}, {alarm.net}, {alarm.format}: {f.name} @ {f.layer}")
    print("\n".join(totals(found, said)))
    if options.write:
        blocks = {"totals": _listed(totals(found, said)), "found": table(found)}
        blocks |= {"limits": table(beyond), "harmless": harmless_table(said)}
        text = DOC.read_text()
        for name, content in blocks.items():
            text = _replaced(text, name, content)
        DOC.write_text(text)


def _line(o: Outcome, *, long: bool) -> str:
    mark = "ok" if o.placed else "AWAY" if o.found else "MISS" if measurable(o.defect) else "-"
    where = f"{mark:4} {o.format:11} {o.defect.net:13} {o.defect.name:40}"
    text = f"{where} {o.defect.layers[0] or 'the model'}: {_findings(o)}"
    if o.costly and not o.failed:
        text = f"PASS {text}"
    text += "".join(f"\n  TWO {pair}" for pair in contradictions(o.report))
    if long:
        for f in (*o.right, *o.others):
            text += f"\n       {f.severity.label}: {f.message} ({f.confidence})"
    return text


def _findings(o: Outcome) -> str:
    right = ", ".join(f"{f.name} @ {f.layer or 'the model'}" for f in o.right) or "nothing"
    others = ", ".join(f"{f.name} @ {f.layer or 'the model'}" for f in o.others)
    return right + (f"; also {others}" if others else "")


def totals(found: list[Outcome], said: list[Alarm]) -> list[str]:
    """The figures that the suite is for."""
    can = [o for o in found if measurable(o.defect)]
    hit = [o for o in can if o.found]
    placed = [o for o in hit if o.placed]
    loud = [a for a in said if a.findings]
    costly = [o for o in can if o.costly]
    passed = [o for o in costly if not o.failed]
    torn = [o for o in found if contradictions(o.report)]
    defects = len({(o.defect.name, o.defect.net) for o in can})
    changes = len({a.change.name for a in said})
    return [
        f"{defects} defects in {len(can)} files: {len(hit)} found, {len(placed)} at the right layer",
        f"{len(costly)} of these files lose 5 points of accuracy or more as deployed: "
        f"{len(costly) - len(passed)} fail the audit",
        f"{len(torn)} reports say two things that cannot both be true",
        f"{changes} harmless changes in {len(said)} audits: {len(loud)} with a warning or an error",
    ]


def table(found: list[Outcome]) -> str:
    """A line a defect; both formats in one where they agree."""
    lines = ["| defect | network | layer | found in ONNX | found in TorchScript |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for family in (*FAMILIES, "beyond reach"):
        cases = [o for o in found if o.family == family]
        if not cases:
            continue
        if family in FAMILIES:
            lines.append(f"| **{family}** | | | | |")
        for defect in dict.fromkeys(o.defect for o in cases):
            by = {o.format: _findings(o) for o in cases if o.defect is defect}
            onnx, script = (
                by.get("onnx", "not in this format"),
                by.get("torchscript", "not in this format"),
            )
            same = "the same" if script == onnx else script
            layer = defect.layers[0] or "the model"
            lines.append(f"| {defect.name} | {defect.net} | {layer} | {onnx} | {same} |")
    return "\n".join(lines)


def harmless_table(said: list[Alarm]) -> str:
    """A line a change."""
    lines = ["| change | audits | warnings and errors |", "| --- | --- | --- |"]
    for change in dict.fromkeys(a.change for a in said):
        cases = [a for a in said if a.change is change]
        loud = [f"{a.net} {f.name} @ {f.layer}" for a in cases for f in a.findings]
        lines.append(f"| {change.name} | {len(cases)} | {', '.join(loud) or 'none'} |")
    return "\n".join(lines)


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _replaced(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- suite:begin {name} -->\n", f"<!-- suite:end {name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}{content}\n{end}{tail}"


if __name__ == "__main__":
    main()
