"""200 small models by a fleet, by one `check` process, by a command each, and on a local Ray.

    python -m bench.fleet.throughput [--models 200] [--rounds 3] [--jobs 2] [--alone 10] [--ray] [--write]

The ways take turns, round by round, and ratios are taken within a round: on a machine that others use, too,
the ways that use both processors suffer most, and their ratios are too low rather than too high. Seconds of
processors tell what idle ones would give: the jobs at a time, times those of `check`, over those of the way.
A command each is timed on some of the models and multiplied.
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


class Way:
    """One way to audit all models: wall and processor seconds of each round."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.inside: list[float] = []
        self.worked: list[float] = []

    def add(self, wall: float, inside: float, worked: float) -> None:
        """A round."""
        self.wall.append(wall)
        self.inside.append(inside)
        self.worked.append(worked)


def fleet(folder: Path, names: list[str], jobs: int, *more: str) -> tuple[float, float, float]:
    """Wall seconds of a fleet, those from the first audit's begin to the last's end, and of processors."""
    results = folder / "fleet.jsonl"
    results.unlink(missing_ok=True)
    (folder / "list.csv").write_text("model\n" + "\n".join(names) + "\n", encoding="utf-8")
    wall, worked = timed(folder, "fleet", "list.csv", "-j", str(jobs), *OPTIONS, *more)
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    begins = [datetime.fromisoformat(row["started"]).timestamp() for row in rows]
    ends = [b + float(row["seconds"]) for b, row in zip(begins, rows, strict=True)]
    return wall, max(ends) - min(begins), worked + sum(row["processor"] for row in rows)


def table(ways: dict[str, Way], models: int, jobs: int) -> list[str]:
    """Medians, and medians of the ratios of a round."""
    base = next(iter(ways.values()))
    lines = [
        f"| {models} models | wall | start-up aside | processors | each | `check` / it | by processors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, way in ways.items():
        wall, inside, worked = map(statistics.median, (way.wall, way.inside, way.worked))
        at_once = jobs if name.startswith("`fleet") else 1
        ratio = statistics.median(b / w for b, w in zip(base.wall, way.wall, strict=True))
        could = statistics.median(
            at_once * b / w for b, w in zip(base.worked, way.worked, strict=True)
        )
        lines.append(
            f"| {name} | {wall:.0f} s | {inside:.0f} s | {worked:.0f} s | {1000 * worked / models:.0f} ms "
            f"| {ratio:.2f} | {could:.2f} |"
        )
    return lines


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
    ways: dict[str, Way] = {}
    command = f"`fleet --jobs {args.jobs}"
    more = {f"{command}`": (), f"{command} --reuse 1`": ("--reuse", "1")}
    more |= {f"{command} --engine ray`": ("--engine", "ray")} if args.ray else {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = made(folder, args.models)
        for _ in range(args.rounds):
            wall, worked = timed(folder, "check", *names, *OPTIONS)
            ways.setdefault("one `check` process", Way()).add(wall, wall, worked)
            for name, options in more.items():
                ways.setdefault(name, Way()).add(*fleet(folder, names, args.jobs, *options))
            alone = [timed(folder, "check", name, *OPTIONS) for name in names[: args.alone]]
            wall, worked = (
                sum(part) * args.models / args.alone for part in zip(*alone, strict=True)
            )
            ways.setdefault("a command each", Way()).add(wall, wall, worked)
            print("\n".join(table(ways, args.models, args.jobs)), flush=True)
    if args.write:
        written(
            "fleet_throughput", "\n".join(table(ways, args.models, args.jobs)), DOCS / "fleet.md"
        )


if __name__ == "__main__":
    main()
