"""Families of networks in every form: the sweep's time against the live one's, and what has no rule in it.

    python -m bench.forms [--networks NAME ...] [--forms NAME ...] [--rounds 5] [--write]

Processor time of the second order's sweep, the least of interleaved rounds; the live one's in inference
forwards F. Of the operators without a rule it prints how often they are called, their share of the sweep, and
whether they go direction by direction.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from bench.document import written
from bench.forms.measure import FORMS, Form, measured, written_as
from bench.forms.nets import NETWORKS, made
from bench.theory.text import table

HEADER = ["network", "BN", "live: F", *(f"{form} / live" for form in FORMS[1:]), "without a rule"]


def rows(names: list[str], forms: list[str], rounds: int) -> list[list[str]]:
    """A line a network."""
    lines = []
    for name in names:
        net, x = made(name)
        found: dict[str, list[Form]] = {form: [] for form in forms}
        with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
            models = {form: written_as(form, net, x, Path(folder)) for form in forms}
            for _ in range(rounds):  # interleaved: the machine's other work is everybody's
                for form in forms:
                    found[form].append(measured(models[form], x))
        best = {form: min(each, key=lambda one: one.sweep) for form, each in found.items()}
        for form in forms:
            _tell(name, form, best[form])
        live = best["live"]
        cells = [f"{best[f].sweep / live.sweep:.2f}" if f in best else "" for f in FORMS[1:]]
        local = sorted({op for one in best.values() for op in one.local})
        ratio = f"{live.sweep / live.forward:.1f}"
        lines.append([name, str(live.layers), ratio, *cells, ", ".join(f"`{s}`" for s in local)])
    return lines


def _tell(name: str, form: str, one: Form) -> None:
    local = ", ".join(
        f"{op} {count} calls {seconds / one.sweep:.0%}{' one by one' * (op in one.singly)}"
        for op, (count, seconds) in one.local.items()
    )
    whole = (
        f"{one.swept}/{one.layers} swept, {1e3 * one.sweep:.0f} ms, {one.sweep / one.forward:.1f} F"
    )
    print(f"{name}, {form}: {whole} | {local}", *one.obstacles[:1], flush=True)


def main() -> int:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="rewrite docs/performance.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    forms = ["live", *(form for form in args.forms if form != "live")]
    body = table(HEADER, rows(args.networks, forms, args.rounds))
    print(f"\n{body}")
    if args.write:
        written("forms", body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
