"""The second order by the sweep, by double backward and as a user would write it, interleaved.

    python -m bench.second_order [--write] [--only memory depth ...] [--batch 2] [--side 64] [--threads 1]
                                 [--rounds 3] [--device cuda] [--models resnet50 ...]

Times are wall times, medians of interleaved rounds in one process, in forward passes F of inference mode.
The user's script computes g'Hx g alone, with curvlinops where it is installed. Peak memory is the resident
set of a fresh process above that of one which only builds the model; on a GPU what its allocator held.
Residual networks with bottlenecks come with the bench; torchvision's models join where it is installed.
`--write` puts the tables between their markers in docs/performance.md.
"""

from __future__ import annotations

import argparse

import torch

from bench.document import written
from bench.second_order.models import MODELS
from bench.second_order.tables import TABLES, names, peak_of


def main() -> None:
    """Prints the tables; writes them where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak_of:
        way, name = args.peak_of
        print(peak_of(way, name, args))
        return
    for name in names(args.only):
        rows = []
        for row in TABLES[name](args):
            rows.append(row)
            print(row, flush=True)
        if args.write:
            written(name, "\n".join(rows))


if __name__ == "__main__":
    main()
