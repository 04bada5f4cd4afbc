"""200 small models by a fleet, by one `check` process, by a command each, and on a local Ray.

    python -m bench.fleet.throughput [--models 200] [--rounds 3] [--jobs 2] [--alone 10] [--ray] [--write]

The ways take turns, round by round, and ratios are taken within a round: on a machine that others use, too,
the ways that use both processors suffer most, and their ratios are too low rather than too high. A command
each is timed on some of the models and multiplied.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import datetime
from pathlib import Path

from bench.document import DOCS, written
from bench.fleet.models import OPTIONS, made, timed


def span(path: Path) -> float:
    """Seconds from the beginning of the first audit to the end of the last: without start-up."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    begins = [datetime.fromisoformat(row["started"]).timestamp() for row in rows]
    ends = [b + float(row["seconds"]) for b, row in zip(begins, rows, strict=True)]
    return max(ends) - min(begins)


def fleet(folder: Path, names: list[str], jobs: int, *more: str) -> tuple[float, float]:
    """Wall seconds of a fleet, with and without start-up."""
    results = folder / "fleet.jsonl"
    results.unlink(missing_ok=True)
    (folder / "list.csv").write_text("model\n" + "\n".join(names) + "\n", encoding="utf-8")
    wall = timed(folder, "fleet", "list.csv", "-j", str(jobs), *OPTIONS, *more)
    return wall, span(results)


def row(name: str, walls: list[float], base: list[float], count: int) -> str:
    """A line of the table: medians, and the median of the ratios."""
    wall = statistics.median(walls)
    ratio = statistics.median(b / w for b, w in zip(base, walls, strict=True))
    return f"| {name} | {wall:.1f} s | {1000 * wall / count:.0f} ms | {ratio:.2f} |"


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--alone", type=int, default=10)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    ways: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = made(folder, args.models)
        for _ in range(args.rounds):
            one = timed(folder, "check", *names, *OPTIONS)
            ways.setdefault("one `check` process", []).append(one)
            wall, inside = fleet(folder, names, args.jobs)
            ways.setdefault(f"`fleet --jobs {args.jobs}`", []).append(wall)
            ways.setdefault("the same, start-up aside", []).append(inside)
            fresh = fleet(folder, names, args.jobs, "--reuse", "1")[0]
            ways.setdefault(f"`fleet --jobs {args.jobs} --reuse 1`", []).append(fresh)
            alone = sum(timed(folder, "check", name, *OPTIONS) for name in names[: args.alone])
            ways.setdefault("a command each", []).append(alone * args.models / args.alone)
            if args.ray:
                wall, inside = fleet(folder, names, args.jobs, "--engine", "ray")
                ways.setdefault(f"`fleet --jobs {args.jobs} --engine ray`", []).append(wall)
                ways.setdefault("Ray, start-up aside", []).append(inside)
            print(
                {way: [round(wall, 1) for wall in walls] for way, walls in ways.items()}, flush=True
            )
    base = ways["one `check` process"]
    lines = [
        f"| {args.models} models | all | each | times as fast as one `check` |",
        "|---|---|---|---|",
    ]
    lines += [row(way, walls, base, args.models) for way, walls in ways.items()]
    print("\n".join(lines))
    if args.write:
        written("fleet_throughput", "\n".join(lines), DOCS / "fleet.md")


if __name__ == "__main__":
    main()
