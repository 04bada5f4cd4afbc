"""Commands that write reports, ended by signals at random moments: every output is the old or the new one.

    python -m bench.kills [--kills 200] [--seed 0] [--write]

Half of the moments lie in the whole run, half in the last fifth of it, where files are written.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from bench.document import SECURITY, written

MODEL = Path(__file__).parents[1] / "fixtures" / "digits_resnet" / "model.onnx"
OUTPUTS = ("r.json", "r.sarif", "r.xml", "r.md")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A command that writes all formats."""
    command = [
        sys.executable,
        "-m",
        "bnaudit",
        "inspect",
        str(MODEL),
        "--no-config",
        "--format",
        "none",
        "-q",
    ]
    command += [part for name in OUTPUTS for part in ("-o", name)]
    return subprocess.Popen(
        [*command, "--channels"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def broken(folder: Path, whole: dict[str, str]) -> list[str]:
    """Outputs that are neither as before nor whole; all runs write the same."""
    found = []
    for name in OUTPUTS:
        text = (folder / name).read_text(encoding="utf-8")
        if name.endswith((".json", ".sarif")):
            json.loads(text)
        elif name.endswith(".xml"):
            ET.fromstring(text)  # noqa: S314  # our own
        if text not in {whole[name], "old\n" if name.endswith(".md") else whole[name]}:
            found.append(name)
    return found


def main() -> None:
    """Prints and writes what came of it; exits with 1 where an output was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rng, ends, wrong, parts = random.Random(args.seed), Counter[str](), 0, 0  # noqa: S311
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        start(folder).communicate()
        seconds = time.perf_counter() - begin
        whole = {output: (folder / output).read_text(encoding="utf-8") for output in OUTPUTS}
        for _ in range(args.kills):
            (folder / "r.md").write_text("old\n")
            process = start(folder)
            time.sleep(seconds * (rng.random() if rng.random() < 0.5 else 1.1 - 0.3 * rng.random()))
            sent = rng.choice(SIGNALS)
            process.send_signal(sent)
            process.communicate()
            ends[f"{sent.name}, exit {process.returncode}"] += 1
            wrong += len(broken(folder, whole))
            for path in folder.glob(".*.part"):
                parts += 1
                path.unlink()
    text = (
        f"{args.kills} signals ({', '.join(s.name for s in SIGNALS)}) at random moments of a command with "
        f"{len(OUTPUTS)} outputs: {wrong} partial or broken outputs, {parts} `.part` files left."
    )
    print(text)
    print(dict(ends))
    if args.write:
        written("kills", text, SECURITY)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
