"""Files through optimisers of ONNX. Run in an environment of its own: `in_optimiser.py FOLDER TOOL...`."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

SLIM_SKIPS = ("--skip-fusion-patterns", "FusionConvBN", "FusionConvTransposeBN")


def optimise(tool: str, source: Path, target: Path) -> None:
    """One file. What "as advised" means is what bnaudit prints.

    Raises:
        CalledProcessError: the tool failed.
    """
    name, _, advised = tool.partition(", ")
    beside = Path(sys.executable).parent
    if name == "onnxslim":
        skips = SLIM_SKIPS if advised else ()
        command = [str(beside / name), str(source), str(target), *skips]
        subprocess.run(command, check=True, capture_output=True)
    elif name == "onnxsim":
        keep = ["--skip-fuse-bn"] if advised else []
        command = [str(beside / name), *keep, str(source), str(target)]
        subprocess.run(command, check=True, capture_output=True)
    else:
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        levels = runtime.GraphOptimizationLevel
        level = "disable_all" if advised else name.partition(" ")[2]
        options.graph_optimization_level = getattr(levels, f"ORT_{level.upper()}")
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        runtime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def main(tools: list[str], folder: Path) -> None:
    """Every file of the folder that an exporter wrote as advised, through every tool."""
    for source in sorted(folder.glob("*, as advised+*.onnx")):
        exporter, _, pattern = source.stem.partition("+")
        if exporter.partition(",")[0] not in {"dynamo", "torchscript"}:
            continue
        for tool in tools:
            target = folder / f"{tool} after {exporter.partition(',')[0]}+{pattern}.onnx"
            try:
                optimise(tool, source, target)
            except Exception as error:  # whatever an optimiser raises
                target.with_suffix(".failed").write_text(f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main(sys.argv[2:], Path(sys.argv[1]))
