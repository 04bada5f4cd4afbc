"""The second order by the forward sweep against double backward, in float64, network by network.

    python -m bench.agreement                              # all of them: under half an hour of one core
    python -m bench.agreement --models resnet18 unet       # some
    python -m bench.agreement --write                      # and puts the table into docs/performance.md

Each network in each form is audited four times, in a process of its own: by the sweep in each of its
three details, also where double backward would be cheaper, and by double backward. Results are kept in
`--results` and not measured again. Exits with 1 where something differs by more than 1e-9, or was
not compared. torchvision's networks join where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from bench.agreement.compare import DETAILS, Agreement
from bench.agreement.forms import NETWORKS, Case, cases, measured
from bench.agreement.nets import is_available
from bench.theory.text import order, table
from bench.theory_numbers import rewritten

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
TOLERANCE = 1e-9


def _child(case: Case) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
        found = measured(case, Path(folder))
    print(json.dumps(asdict(found)))


def _stored(case: Case, results: Path) -> Agreement:
    """The result of a case, measured where there is none."""
    path = results / f"{case.slug}.json"
    if not path.exists():
        command = [sys.executable, "-m", "bench.agreement", "--case", case.network, case.form]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env={**os.environ, **threads}, check=False, capture_output=True, text=True
        )
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        last = lines[-1] if lines else f"the process ended with {done.returncode}"
        if done.returncode:
            return Agreement(failed=last)
        path.write_text(last + "\n", encoding="utf-8")
    return Agreement(**json.loads(path.read_text(encoding="utf-8")))


def _row(case: Case, found: Agreement) -> list[str]:
    if found.failed:
        return [case.network, case.form, "-", found.failed[:80], "-", "-", "-", "-"]
    swept = str(found.swept)
    if found.compared < found.layers:
        swept += f" ({found.layers - found.compared} not compared)"
    differences = [order(found.differences[detail]) for detail in DETAILS]
    return [
        case.network,
        case.form,
        str(found.layers),
        swept,
        *differences,
        order(found.residual),
    ]


def _agrees(found: Agreement) -> bool:
    whole = not found.failed and found.compared == found.swept == found.layers > 0
    return whole and all(d <= TOLERANCE for d in found.differences.values())


def main() -> int:
    """Measures what is missing, prints the table; 1 where something does not agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--write", action="store_true", help="rewrite docs/performance.md")
    parser.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "bnaudit-agreement"
    )
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        _child(Case(*args.case))
        return 0
    args.results.mkdir(parents=True, exist_ok=True)
    found = {}
    for case in cases([name for name in args.models if is_available(name)]):
        found[case] = _stored(case, args.results)
        print(" | ".join(_row(case, found[case])), *found[case].notes[:3], sep="\n  ", flush=True)
    header = ["network", "form", "BN layers", "swept", *DETAILS, "slope residual"]
    body = table(header, [_row(case, agreement) for case, agreement in found.items()])
    print(f"\n{body}")
    if args.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        fresh = rewritten(text, {"second_order_agreement": body})
        DOCUMENT.write_text(fresh, encoding="utf-8")
    return 0 if all(_agrees(agreement) for agreement in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
