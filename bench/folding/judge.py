"""What a file has, by its nodes alone, and whether what bnaudit says of it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

import bnaudit

if TYPE_CHECKING:
    from pathlib import Path

_OPERATOR = "BatchNormalization"
_ARITHMETIC = {"Mul", "Div", "Sub"}


def found_in(path: Path) -> str:
    """Whether it is kept, a*x + b, or folded; the networks have no arithmetic of their own."""
    model = onnx.load(path)
    graphs = [model.graph.node, *(function.node for function in model.functions)]
    operators = {node.op_type for nodes in graphs for node in nodes}
    if _OPERATOR in operators or "BatchNormInference" in operators:
        return "kept"
    return "a*x + b" if operators & _ARITHMETIC else "folded"


def cell(path: Path, remedy: str | None) -> str:
    """What is in the file; marked where bnaudit says otherwise, or gives another remedy.

    "told" is a case with evidence; "open" one that says that the file does not tell; "judged" the four stored
    vectors of arithmetic that is spelled out.

    Args:
        path: the file.
        remedy: what the fix has to say where BatchNorm is gone, None where nothing was tried.
    """
    truth = found_in(path)
    report = bnaudit.inspect(path)
    inspection, layers = report.inspection, report.inspection.batchnorms
    absence = inspection.absence
    if truth == "kept":
        return truth if len(layers) == 1 and report.exit_code == 0 else f"{truth}, WRONG"
    if layers and absence is not None and absence.case == "other-form":
        return f"{truth}, judged"
    if layers or absence is None or report.exit_code != 3:
        return f"{truth}, WRONG"
    cases = {"folded": "told", "frozen": "told", "partly-folded": "told", "unknown": "open"}
    told = cases.get(absence.case, "WRONG")
    if told == "told" and remedy is not None and remedy not in absence.fix:
        told = "WRONG remedy"
    return f"{truth}, {told}"
