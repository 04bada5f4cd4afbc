"""How far the numbers of a report vary without anything having changed: what `bnaudit diff` tolerates.

`python -m bench.spread` prints, for the shipped networks, the largest relative difference between float32 and
float64, and the largest ratio between two of up to eight batches of one model.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

import bnaudit
from bnaudit.compare.snapshot import snapshot_of

if TYPE_CHECKING:
    from bnaudit.records.snapshot import Quantity

FIXTURES = Path(__file__).parents[1] / "fixtures"
ROWS, BATCHES = 32, 8

Numbers = dict[tuple[str, str], float]


def numbers(report: bnaudit.Report) -> Numbers:
    """(layer, metric) -> value, as a comparison reads it."""
    snapshot = snapshot_of(report)
    quantities: dict[tuple[str, str], Quantity] = {
        (layer.label, name): number
        for layer in snapshot.layers
        for name, number in layer.numbers.items()
    }
    return {key: number.value for key, number in quantities.items()}


def per_batch(model: Path, data: Path) -> list[Numbers]:
    """The numbers of one batch after the other."""
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    rows = len(next(iter(arrays.values())))
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "batch.npz"
        for start in range(0, min(rows - ROWS + 1, ROWS * BATCHES), ROWS):
            np.savez(path, **{name: a[start : start + ROWS] for name, a in arrays.items()})
            found.append(numbers(bnaudit.audit(model, data=str(path), batches=1, batch_size=ROWS)))
    return found


def main() -> None:
    """Prints a line for each network and metric."""
    for name in ("digits_resnet", "tabular_mlp"):
        model, data = FIXTURES / name / "model.onnx", FIXTURES / name / "batch.npz"
        single = numbers(bnaudit.audit(model, data=str(data)))
        double = numbers(bnaudit.audit(model, data=str(data), dtype="float64"))
        batches = per_batch(model, data)
        for metric in dict.fromkeys(key[1] for key in single):
            keys = [key for key in single if key[1] == metric]
            rounding = max(abs(single[k] - double[k]) / abs(double[k]) for k in keys)
            ratio = max(max(b[k] for b in batches) / min(b[k] for b in batches) for k in keys)
            print(
                f"{name:14} {metric:15} float32/float64 {rounding:.1e}  "
                f"between {len(batches)} batches x{ratio:.2f}"
            )


if __name__ == "__main__":
    main()
