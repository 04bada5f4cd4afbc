"""Twenty families of networks in every form: which operators the sweep takes direction by direction.

    python -m bench.forms [--networks NAME ...] [--forms NAME ...] [--rounds 3] [--write]

The sweep of the second order in processor time, in inference forwards F of the same form, against that of the
live network; beside it what went direction by direction, how often, and its share of the sweep. Exits with 1 where
something did whose operator is not in `KNOWN`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from bench.document import written
from bench.forms.measure import FORMS, Form, measured
from bench.forms.nets import NETWORKS, made
from bench.theory.text import table

HEADER = ["network", "BN", "live: F", *(f"{form} / live" for form in FORMS[1:]), "one by one"]


def rows(names: list[str], forms: list[str], rounds: int) -> tuple[list[list[str]], set[str]]:
    """A line a network, and the operators that went direction by direction."""
    lines, slow = [], set()
    for name in names:
        net, x = made(name)
        found: dict[str, Form] = {}
        for form in forms:
            with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
                found[form] = measured(form, net, x, Path(folder) / "model", rounds)
            _tell(name, form, found[form])
        live = found["live"]
        cells = []
        for form in FORMS[1:]:
            one = found.get(form, Form())
            cells.append("not written" if one.failed else f"{one.sweep / live.sweep:.2f}")
        singly = sorted({op for one in found.values() for op in one.singly})
        slow |= set(singly)
        ratio = f"{live.sweep / live.forward:.1f}"
        lines.append([name, str(live.layers), ratio, *cells, ", ".join(f"`{s}`" for s in singly)])
    return lines, slow


def _tell(name: str, form: str, one: Form) -> None:
    if one.failed:
        print(f"{name}, {form}: {one.failed}", flush=True)
        return
    singly = ", ".join(
        f"{op} {count} calls {seconds / one.sweep:.0%}" for op, (count, seconds) in one.singly.items()
    )
    whole = f"{one.swept}/{one.layers} swept, {1e3 * one.sweep:.0f} ms, {one.sweep / one.forward:.1f} F"
    print(f"{name}, {form}: {whole} | {singly}", *one.obstacles[:1], flush=True)


def main() -> int:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="rewrite docs/performance.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines, slow = rows(args.networks, ["live", *(f for f in args.forms if f != "live")], args.rounds)
    body = table(HEADER, lines)
    print(f"\n{body}")
    if args.write:
        written("forms", body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
