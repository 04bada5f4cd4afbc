"""Every BatchNorm-bearing classification and segmentation network of torchvision, written in every way.

    python -m bench.coverage                  # all of them: hours of processor time
    python -m bench.coverage --quick          # one small network of each family
    python -m bench.coverage --only 'resnet*' # by name
    python -m bench.coverage --write          # and puts the tables into docs/coverage.md
    python -m bench.coverage --tables --write # the same of what has been measured so far

Each network is exported by both exporters of torch.onnx at five opsets, scripted and traced; each file
is loaded, compared with onnxruntime (TorchScript: with the network itself) and audited, in a process
of its own. Results are kept in `--results` and not measured again. Exits with 1 where something that
an exporter wrote did not pass.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.theory_numbers import rewritten
from bench.vision import real
from bench.vision.nets import names
from bench.vision.table import Results, all_passed, exceptions, networks, stored, summary

DOCUMENT = Path(__file__).parents[1] / "docs" / "coverage.md"

QUICK = (
    "deeplabv3_mobilenet_v3_large",
    "densenet121",
    "efficientnet_b0",
    "fcn_resnet50",
    "googlenet",
    "inception_v3",
    "lraspp_mobilenet_v3_large",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "vgg11_bn",
    "wide_resnet50_2",
)


def measure(name: str, results: Path) -> None:
    """All cells of a network, in a process of its own with one thread."""
    command = [sys.executable, "-m", "bench.vision.worker", name, str(results / name)]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **threads}, check=False)
    print(name, "done" if done.returncode == 0 else f"ended with {done.returncode}", flush=True)


def tables(results: Results, files: str) -> dict[str, str]:
    """The blocks of the document."""
    return {
        "summary": summary(results),
        "exceptions": exceptions(results),
        "networks": networks(results),
        "files": files,
    }


def main() -> int:
    """Measures what is missing, prints the tables; 1 where something did not pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="glob over the networks' names")
    parser.add_argument("--quick", action="store_true", help="one small network of each family")
    parser.add_argument("--write", action="store_true", help="rewrite docs/coverage.md")
    parser.add_argument("--tables", action="store_true", help="measure no further networks")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time")
    parser.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "bnaudit-coverage"
    )
    args = parser.parse_args()
    chosen = [
        name
        for name in names()
        if fnmatch.fnmatch(name, args.only) and (name in QUICK or not args.quick)
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        if not args.tables:
            list(pool.map(lambda name: measure(name, args.results), chosen))
    found = stored(args.results)
    results = {name: found.get(name, {}) for name in chosen}
    cells = real.measured(args.results / "files")
    blocks = tables(results, real.text(cells))
    for name, body in blocks.items():
        print(f"\n{name}\n{body}")
    if args.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(rewritten(text, blocks), encoding="utf-8")
    return 0 if all_passed(results.values()) and all(c.passed for c in cells.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
