"""Runs exporters, converters and optimisers, pinned; holds what bnaudit says of a file against the file.

    python -m bench.folding                  # the table, on stdout
    python -m bench.folding --write          # and into docs/folding.md
    python -m bench.folding --here           # only what needs no environment of its own
    python -m bench.folding --environments F # keeps the environments in F, 5 GB, for another time

Each tool runs in an environment that is made for it. Exits with 1 where a cell is wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import bnaudit
from bench.folding.judge import cell
from bench.folding.networks import PATTERNS, export

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "folding.md"

_KERAS3 = "keras==3.15.1"
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "optimisers": ("onnxsim==0.8.1", "onnxslim==0.1.98", "onnxruntime==1.32.0", "onnx==1.17.0"),
    "tensorflow-2.21": ("tensorflow-cpu==2.21.0", _KERAS3, "tf2onnx==1.17.0"),
    "tensorflow-2.15": ("tensorflow-cpu==2.15.1", "tf2onnx==1.16.1", "onnx==1.17.0"),
    "keras-jax": (_KERAS3, "jax==0.10.2", "jax2onnx==0.17.1"),
    "keras-torch": (_KERAS3, "torch==2.13.0", "onnx==1.23.2", "onnxscript==0.7.2"),
    "paddle": ("paddlepaddle==3.3.1", "paddle2onnx==2.1.0", "packaging", "six"),
}

EXPORTERS = ("dynamo", "torchscript")
_LEVELS = ("enable_basic", "enable_extended", "enable_all")
OPTIMISERS = (*(f"onnxruntime {level}" for level in _LEVELS), "onnxsim", "onnxslim")
ADVISED = ("onnxruntime, as advised", "onnxsim, as advised", "onnxslim, as advised")

JOBS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("tensorflow-2.21", "in_keras.py", "tensorflow", ("export", "tf2onnx", "tflite", "keras")),
    ("tensorflow-2.15", "in_keras.py", "", ("tf2onnx", "tf2onnx, as advised", "tflite", "keras")),
    ("keras-jax", "in_keras.py", "jax", ("export", "keras")),
    ("keras-torch", "in_keras.py", "torch", ("export", "keras")),
    ("paddle", "in_paddle.py", "", ()),
)

# The way -> what the remedy has to say, and the way that carries it out.
_KERAS_FILE = ("model.save('model.keras')", "keras")
REMEDIES: dict[tuple[str, str], tuple[str, str]] = {
    ("", "dynamo"): ("dynamo=True, optimize=False", "dynamo, as advised"),
    ("", "torchscript"): ("TrainingMode.PRESERVE", "torchscript, as advised"),
    **{
        ("", f"{tool} after {exporter}"): (says, f"{advised} after {exporter}")
        for exporter in EXPORTERS
        for tool, advised, says in (
            *((t, ADVISED[0], "ORT_DISABLE_ALL") for t in OPTIMISERS[:3]),
            ("onnxsim", ADVISED[1], "--skip-fuse-bn"),
            ("onnxslim", ADVISED[2], "--skip-fusion-patterns FusionConvBN"),
        )
    },
    ("tensorflow-2.21", "export"): _KERAS_FILE,
    ("tensorflow-2.21", "tf2onnx"): _KERAS_FILE,
    ("tensorflow-2.21", "tflite"): _KERAS_FILE,
    ("tensorflow-2.15", "tf2onnx"): ("remove_back_to_back", "tf2onnx, as advised"),
    ("tensorflow-2.15", "tflite"): _KERAS_FILE,
    ("keras-jax", "export"): _KERAS_FILE,
    ("keras-torch", "export"): _KERAS_FILE,
}


def interpreter(name: str, folder: Path) -> Path:
    """The Python of an environment, which is made where it is not there yet."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]]
        subprocess.run(install, check=True)
    return python


def run(python: Path, script: str, backend: str, arguments: list[str]) -> None:
    """One script in its environment; what a tool cannot write it tells in a file of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"KERAS_BACKEND": backend} if backend else {})
    command = [str(python), str(HERE / script), *arguments]
    subprocess.run(command, env=environment, capture_output=True, check=False)


def produced(folder: Path, environments: Path | None) -> None:
    """All files, a folder an environment; PyTorch's exporters are those of this one."""
    (folder / "torch").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for pattern in PATTERNS:
            for how in (*EXPORTERS, *(f"{e}, as advised" for e in EXPORTERS)):
                export(pattern, folder / "torch" / f"{how}+{pattern}.onnx", how)
    if environments is None:
        tools = [t for t in (*OPTIMISERS, *ADVISED) if t.startswith("onnxruntime")]
        run(Path(sys.executable), "in_optimiser.py", "", [str(folder / "torch"), *tools])
        return
    optimise = interpreter("optimisers", environments)
    run(optimise, "in_optimiser.py", "", [str(folder / "torch"), *OPTIMISERS, *ADVISED])
    for name, script, backend, ways in JOBS:
        (folder / name).mkdir()
        run(interpreter(name, environments), script, backend, [str(folder / name), *ways])


def row(folder: Path, name: str, way: str) -> list[str]:
    """The cells of one way of making a file, and how often the remedy gave BatchNorm back."""
    printed, remedy = REMEDIES.get((name, way), (None, ""))
    place = folder / (name or "torch")
    cells, gone, back = [], 0, 0
    for pattern in PATTERNS:
        path = place / f"{way}+{pattern}.onnx"
        if not path.exists():
            failed = path.with_suffix(".failed").exists()
            cells.append("not written" if failed else "-")
            continue
        by_tensorflow = way == "tf2onnx" and pattern in {"linear", "MatMul"}
        says = _KERAS_FILE[0] if by_tensorflow else printed  # it takes these apart itself
        cells.append(cell(path, says))
        if not cells[-1].startswith("kept"):
            gone += 1
            back += _is_back(place, pattern, remedy, says)
    return [*cells, f"{back} of {gone}" if gone else ""]


def _is_back(place: Path, pattern: str, remedy: str, says: str | None) -> bool:
    way = "keras" if says == _KERAS_FILE[0] else remedy
    path = place / f"{way}+{pattern}{'.keras' if way == 'keras' else '.onnx'}"
    return path.exists() and len(bnaudit.inspect(path).inspection.batchnorms) == 1


def table(folder: Path, *, everything: bool) -> list[str]:
    """The rows, in Markdown."""
    tools = OPTIMISERS if everything else OPTIMISERS[:3]
    ways = [("", e) for e in EXPORTERS]
    ways += [("", f"{tool} after {e}") for tool in tools for e in EXPORTERS]
    if everything:
        ways += [(name, w) for name, _, _, own in JOBS for w in own if "advised" not in w]
        ways = [w for w in ways if w[1] != "keras"] + [("paddle", "paddle")]
    head = ["tool", *PATTERNS, "remedy"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for name, way in ways:
        title = f"{name}: {way}" if name else way
        lines.append(f"| {' | '.join([title, *row(folder, name, way)])} |")
    return lines


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--environments", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        environments = asked.environments or Path(scratch) / "environments"
        produced(files, None if asked.here else environments)
        lines = table(files, everything=not asked.here)
    print("\n".join(lines))
    if asked.write and not asked.here:
        begin, end = "<!-- table:begin -->", "<!-- table:end -->"
        text = DOCUMENT.read_text(encoding="utf-8")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        written = "\n".join([begin, *lines, end])
        DOCUMENT.write_text(f"{before}{written}{after}", encoding="utf-8")
    return int(any("WRONG" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
