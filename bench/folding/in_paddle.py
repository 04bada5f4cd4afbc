"""The same patterns in PaddlePaddle. Run inside an environment of its own: `in_paddle.py FOLDER`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PATTERNS = ("conv", "grouped", "depthwise", "transposed", "linear", "pre-activation")


def model(pattern: str) -> tuple[Any, list[int]]:
    """A network in eval mode, and the shape of its input."""
    paddle = import_module("paddle")
    nn = paddle.nn
    layers = {
        "conv": lambda: [nn.Conv2D(4, 8, 3, bias_attr=False), nn.BatchNorm2D(8), nn.ReLU()],
        "grouped": lambda: [nn.Conv2D(4, 8, 3, groups=2), nn.BatchNorm2D(8), nn.ReLU()],
        "depthwise": lambda: [nn.Conv2D(4, 4, 3, groups=4), nn.BatchNorm2D(4), nn.ReLU()],
        "transposed": lambda: [nn.Conv2DTranspose(4, 8, 2), nn.BatchNorm2D(8), nn.ReLU()],
        "linear": lambda: [nn.Linear(4, 8), nn.BatchNorm1D(8), nn.ReLU()],
        "pre-activation": lambda: [nn.BatchNorm2D(4), nn.ReLU(), nn.Conv2D(4, 8, 3)],
    }[pattern]()
    net = nn.Sequential(*layers)
    for layer in net.sublayers():
        if hasattr(layer, "_variance"):
            size = layer._variance.shape
            for tensor in (layer._variance, layer.weight):
                tensor.set_value(paddle.uniform(size, min=0.5, max=1.5))
            for tensor in (layer._mean, layer.bias):
                tensor.set_value(paddle.randn(size))
    net.eval()
    return net, [-1, 4] if pattern == "linear" else [-1, 4, 8, 8]


def main(folder: Path) -> None:
    """All patterns."""
    paddle = import_module("paddle")
    for pattern in PATTERNS:
        net, shape = model(pattern)
        path = folder / f"paddle+{pattern}.onnx"
        spec = [paddle.static.InputSpec(shape, "float32", "x")]
        try:
            paddle.onnx.export(net, str(path.with_suffix("")), input_spec=spec, opset_version=13)
        except Exception as error:  # whatever a converter raises
            path.with_suffix(".failed").write_text(f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
