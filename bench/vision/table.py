"""The results of many cells as the tables of docs/coverage.md."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from bench.theory.text import Rows, table
from bench.vision.cells import WAYS, Cell, Way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Results = dict[str, dict[Way, Cell]]

GROUPS = {
    "TorchScript exporter": [way for way in WAYS if way.writer == "torchscript"],
    "dynamo exporter": [way for way in WAYS if way.writer == "dynamo"],
    "scripted": [way for way in WAYS if way.writer == "scripted"],
    "traced": [way for way in WAYS if way.writer == "traced"],
}


def stored(folder: Path) -> Results:
    """What has been measured so far."""
    results: Results = {}
    for file in sorted(folder.glob("*/*.json")):
        way = next((way for way in WAYS if str(way) == file.stem), None)
        if way is not None:
            cell = Cell(**json.loads(file.read_text(encoding="utf-8")))
            results.setdefault(file.parent.name, {})[way] = cell
    return results


def networks(results: Results) -> str:
    """A row for each network."""
    header = ["network", "BatchNorm calls"]
    header += [f"{group}: passed" for group in GROUPS]
    header += ["difference", "in float64", "measured", "residual / tolerance"]
    rows: Rows = []
    for name, cells in results.items():
        written = [cell for cell in cells.values() if not cell.refused]
        calls = sorted({cell.executed for cell in cells.values()})
        rows.append(
            [
                name,
                ", ".join(map(str, calls)) or "-",
                *(_passed([cells.get(way) for way in ways]) for ways in GROUPS.values()),
                _largest(written, lambda cell: cell.relative),
                _largest(written, lambda cell: cell.exact),
                f"{sum(c.measured for c in written)}/{sum(c.executed for c in written)}",
                _largest(written, lambda cell: cell.residual),
            ]
        )
    return table(header, rows)


def _passed(cells: list[Cell | None]) -> str:
    run = [cell for cell in cells if cell is not None]
    written = [cell for cell in run if not cell.refused]
    if not run:
        return "not run"
    missing = {"not written": len(run) - len(written), "not run": len(cells) - len(run)}
    notes = ", ".join(f"{count} {what}" for what, count in missing.items() if count)
    text = f"{sum(cell.passed for cell in written)}/{len(written)}"
    return f"{text} ({notes})" if notes else text


def _largest(cells: list[Cell], value: Callable[[Cell], float]) -> str:
    # a missing number is no small one
    values = [value(cell) for cell in cells]
    return "-" if not values or any(map(math.isnan, values)) else f"{max(values):.1e}"


def summary(results: Results) -> str:
    """A row for each way of writing a network, over all networks."""
    header = ["written by", "opset asked for", "opset of the file", "networks", "not written"]
    header += ["passed", "difference", "in float64", "layers measured", "residual / tolerance"]
    rows: Rows = []
    for way in WAYS:
        cells = [cells[way] for cells in results.values() if way in cells]
        written = [cell for cell in cells if not cell.refused]
        opsets = sorted({cell.opset for cell in written if cell.opset is not None})
        rows.append(
            [
                way.writer,
                "" if way.opset is None else str(way.opset),
                ", ".join(map(str, opsets)),
                str(len(cells)),
                str(len(cells) - len(written)),
                f"{sum(cell.passed for cell in written)}/{len(written)}",
                _largest(written, lambda cell: cell.relative),
                _largest(written, lambda cell: cell.exact),
                f"{sum(c.measured for c in written)}/{sum(c.executed for c in written)}",
                _largest(written, lambda cell: cell.residual),
            ]
        )
    return table(header, rows)


def exceptions(results: Results) -> str:
    """What was not written, and what did not pass, with the reasons."""
    lines: dict[str, list[str]] = {}
    for name, cells in results.items():
        for way, cell in cells.items():
            if not cell.passed:
                lines.setdefault(_reason(cell), []).append(f"{name} ({way})")
    return "\n".join(f"- {', '.join(where)}: {why}" for why, where in lines.items()) or "None."


def _reason(cell: Cell) -> str:
    if cell.refused:
        return f"not written by the exporter: `{_cut(cell.refused)}`"
    if cell.failed:
        return f"failed: `{_cut(cell.failed)}`"
    return (
        f"difference {cell.relative:.1e}, {cell.measured} of {cell.executed} layers measured "
        f"({cell.layers} seen)"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


def all_passed(results: Iterable[dict[Way, Cell]]) -> bool:
    """Whether every file that an exporter wrote passed."""
    return all(cell.passed or cell.refused for cells in results for cell in cells.values())
