"""Damaged and hostile files by the thousand, for every reader, in children with limits.

    python -m bench.fuzz --files 100000 [--seed 0] [--state FOLDER] [--workers 2] [--write]
    python -m bench.fuzz --minimise FOLDER/failures/NAME

A file is a function of the seed, its target and its number. What was done is kept in the state's folder,
and a campaign that is started again goes on. Nothing may end with a traceback, exit code 70, a signal, or not
at all; nothing may be written, called, or pass with values that no BatchNorm has.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.document import SECURITY, written
from bench.fuzz.child import KINDS, children, judged
from bench.fuzz.mutate import flipped
from bench.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHUNK = 50


def mutated(name: str, seeds: Mapping[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """The name and the bytes of one file of a target."""
    rng = random.Random(f"{seed} {name} {number}")  # noqa: S311
    file = rng.choice(sorted(seeds))
    changes = (flipped, *TARGETS[name].mutations)
    try:
        return file, rng.choice(changes)(rng, seeds[file])
    except Exception:  # an order of changes that a library refuses to write
        return file, flipped(rng, seeds[file])


def chunks(files: int, names: list[str]) -> Iterator[tuple[str, int, int]]:
    """(target, first, last + 1), each target's share of the files."""
    whole = sum(TARGETS[name].share for name in names)
    for name in names:
        count = round(files * TARGETS[name].share / whole)
        for first in range(0, count, CHUNK):
            yield name, first, min(first + CHUNK, count)


def done(state: Path) -> list[dict[str, Any]]:
    """What earlier calls have tried."""
    found = []
    for log in sorted(state.glob("*.jsonl")):
        found += [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return found


def work(todo: list[tuple[str, int, int]], seed: int, state: Path, worker: int) -> None:
    """Tries some chunks, and writes a line for each."""
    seeds: dict[str, Mapping[str, bytes]] = {}
    with (state / f"{seed}-{worker}-{os.getpid()}.jsonl").open("a") as log:
        for name, first, end in todo:
            if name not in seeds:
                seeds[name] = TARGETS[name].seeds()
            start = time.perf_counter()
            files = [mutated(name, seeds[name], seed, number) for number in range(first, end)]
            kinds: Counter[str] = Counter()
            failures = []
            for number, (kind, detail) in zip(
                range(first, end), children(TARGETS[name], files), strict=True
            ):
                kinds[kind] += 1
                if kind in KINDS:
                    file, content = files[number - first]
                    kept = state / "failures" / f"{list(TARGETS).index(name):02}-{number:06}-{file}"
                    kept.write_bytes(content)
                    failures.append([kind, detail, kept.name])
            seconds = time.perf_counter() - start
            line = {
                "target": name,
                "first": first,
                "end": end,
                "seconds": seconds,
                "kinds": kinds,
                "failures": failures,
            }
            log.write(json.dumps(line) + "\n")
            log.flush()


def run(files: int, seed: int, state: Path, workers: int, names: list[str]) -> None:
    """Tries what has not been tried."""
    (state / "failures").mkdir(parents=True, exist_ok=True)
    tried = {(line["target"], line["first"]) for line in done(state)}
    todo = [chunk for chunk in chunks(files, names) if chunk[:2] not in tried]
    random.Random(seed).shuffle(todo)  # noqa: S311
    if any(TARGETS[name].torch for name in names):
        import torch

        import bnaudit.load.onnx.loader
        import bnaudit.pipeline  # noqa: F401  # loaded once, for all children

        torch.set_num_threads(1)
    pids = []
    for worker in range(workers):
        if (pid := os.fork()) == 0:
            try:
                work(todo[worker::workers], seed, state, worker)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


def table(state: Path) -> str:
    """A row a target."""
    rows = [f"| reader | files | {' | '.join(KINDS.values())} |", "|---|---|" + "---|" * len(KINDS)]
    whole: Counter[str] = Counter()
    for name in TARGETS:
        found: Counter[str] = Counter()
        for line in done(state):
            if line["target"] == name:
                found.update(line["kinds"])
        whole.update(found)
        if found:
            rows.append(
                f"| {name} | {found.total()} | {' | '.join(str(found[k]) for k in KINDS)} |"
            )
    rows.append(f"| all | {whole.total()} | {' | '.join(str(whole[k]) for k in KINDS)} |")
    return "\n".join(rows)


def minimised(path: Path) -> bytes:
    """A smaller file that fails in the same way: pieces are taken out as long as it does."""
    number, _, file = path.name.split("-", 2)
    target = TARGETS[list(TARGETS)[int(number)]]
    content = path.read_bytes()
    wanted = judged(target, file, content)
    size = len(content) // 2
    while size:
        at = 0
        while at < len(content):
            shorter = content[:at] + content[at + size :]
            if judged(target, file, shorter) == wanted:
                content = shorter
            else:
                at += size
        size //= 2
    print(wanted)
    return content


def main() -> None:
    """Tries files, prints what fell out, and exits with 1 where anything did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"))
    parser.add_argument(
        "--readers", nargs="*", default=list(TARGETS), choices=list(TARGETS), metavar="NAME"
    )
    parser.add_argument("--minimise", type=Path)
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    args = parser.parse_args()
    if args.minimise is not None:
        small = args.minimise.with_suffix(".small")
        small.write_bytes(minimised(args.minimise))
        print(small)
        return
    run(args.files, args.seed, args.state, args.workers, args.readers)
    print(table(args.state))
    found = Counter(
        (kind, detail) for line in done(args.state) for kind, detail, _ in line["failures"]
    )
    for (kind, detail), count in found.most_common():
        kept = next(f[2] for line in done(args.state) for f in line["failures"] if f[1] == detail)
        print(f"{count} x {kind}: {detail} ({kept})")
    if args.write:
        written("fuzz", table(args.state), SECURITY)
    sys.exit(bool(found))
