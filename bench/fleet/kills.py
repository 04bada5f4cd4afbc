"""Drivers and workers of fleets, ended by SIGKILL at random moments: no row is lost, twice or broken.

    python -m bench.fleet.kills [--kills 50] [--models 40] [--seed 0] [--write]

The audits are replaced by rows that take some 25 ms (`bench.fleet.light`): all else, the command, its
processes, its pipes and its file, is the real thing.

Runs over the same models follow each other on the same file, each ended at a moment of the time that a whole
run takes: the driver, or one or two of its workers. Where all models are done, a new file is begun.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from bench.document import DOCS, written
from bench.fleet.models import OPTIONS, ROOT, made

_CODE = """
import sys
import bnaudit.cli.auditing as auditing, bnaudit.fleet.local as local
from bnaudit.cli import main
auditing.TARGET, local._TORCH = "bench.fleet.light:audited", "bench.fleet.light"
main(["fleet", *sys.argv[1:]])
"""


def started(folder: Path, results: str) -> subprocess.Popen[bytes]:
    """A fleet over all models."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", _CODE, "*.onnx", "--results", results, "-j", "2", *OPTIONS]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe)


def children(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(place.read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(place.parent.name), *children(int(place.parent.name))]
    return found


def whole(path: Path) -> list[dict[str, object]]:
    """The rows that have an end."""
    raw = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]


def told(rows: list[dict[str, object]]) -> dict[str, str]:
    """What does not depend on the time, by model."""
    keys = ("outcome", "exit_code", "summary", "layers", "findings", "settings")
    return {str(row["model"]): json.dumps([row[key] for key in keys]) for row in rows}


def main() -> None:
    """Prints and writes what came of it; exits with 1 where a row was lost, twice or broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rng, wrong, counts = random.Random(args.seed), 0, Counter[str]()  # noqa: S311
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made(folder, args.models)
        begin = time.perf_counter()
        started(folder, "whole.jsonl").communicate()
        seconds = time.perf_counter() - begin
        expected = told(whole(folder / "whole.jsonl"))
        path = folder / "fleet.jsonl"
        while counts["driver"] + counts["workers"] < args.kills:
            process = started(folder, path.name)
            time.sleep(seconds * rng.random())
            if process.poll() is not None:
                process.communicate()
            victim = rng.choice(("driver", "workers"))
            below = children(process.pid)
            before = told([row for row in whole(path) if row["outcome"] != "killed"])
            if victim == "driver" or not below:
                victim = "driver"
                process.kill()
            else:
                for pid in rng.sample(below, min(2, len(below))):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            process.communicate()
            counts[victim] += 1
            rows = [row for row in whole(path) if row["outcome"] != "killed"]
            kept = told(rows)
            wrong += len(rows) != len(kept)
            wrong += any(kept.get(model) != text for model, text in before.items())
            if set(kept) == set(expected) or counts.total() == args.kills:
                started(folder, path.name).communicate()  # what was killed for good is tried again
                wrong += told(whole(path)) != expected
                counts["files"] += 1
                path.unlink()
    text = (
        f"{args.kills} times SIGKILL at random moments ({counts['driver']} of the driver, "
        f"{counts['workers']} of one or two processes below it), {args.models} models, {counts['files']} "
        f"files ended and compared with a run that was left alone: {wrong} rows lost, twice, broken or "
        "different."
    )
    print(text)
    if args.write:
        written("fleet_kills", text, DOCS / "fleet.md")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
