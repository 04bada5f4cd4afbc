"""The same patterns in Keras, in every way. Run in an environment of its own: `in_keras.py FOLDER WAY...`."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

FUSES = "remove_back_to_back"
PATTERNS = (
    "conv",
    "grouped",
    "depthwise",
    "transposed",
    "linear",
    "MatMul",
    "pre-activation",
    "shared",
)


def model(pattern: str) -> Any:
    """A functional model with one BatchNormalization that looks trained."""
    np, keras = import_module("numpy"), import_module("keras")
    make = keras.layers
    shape = {"linear": (4,), "MatMul": (5, 4)}.get(pattern, (8, 8, 4))
    x = entry = keras.Input(shape)
    norm = make.BatchNormalization(name="bn")
    front = {
        "conv": lambda: make.Conv2D(8, 3, use_bias=False),
        "grouped": lambda: make.Conv2D(8, 3, groups=2, use_bias=False),
        "depthwise": lambda: make.DepthwiseConv2D(3, use_bias=False),
        "transposed": lambda: make.Conv2DTranspose(8, 2, use_bias=False),
        "linear": lambda: make.Dense(8),
        "MatMul": lambda: make.Dense(8, use_bias=False),
    }
    if pattern == "pre-activation":
        x = make.Conv2D(8, 3)(make.ReLU()(norm(x)))
    elif pattern == "shared":
        x = norm(make.Conv2D(8, 3, use_bias=False)(x))
        x = make.ReLU()(norm(make.Conv2D(8, 3, use_bias=False)(make.ReLU()(x))))
    else:
        x = make.ReLU()(norm(front[pattern]()(x)))
    made = keras.Model(entry, x)
    draw = np.random.default_rng(0)
    size = norm.gamma.shape[0]
    spread, shift = draw.uniform(0.5, 1.5, (2, size)), draw.normal(size=(2, size))
    norm.set_weights([spread[0], shift[0], shift[1], spread[1]])
    made(np.zeros((2, *shape), "float32"))
    return made


def write(made: Any, way: str, path: Path) -> None:
    """One file, by one way."""
    if way == "keras":
        made.save(str(path))
    elif way == "export":
        made.export(str(path), format="onnx", verbose=False)
    elif way in {"tf2onnx", "tf2onnx, as advised"}:
        convert = import_module("tf2onnx")
        options = {}
        if "advised" in way:
            every = convert.optimizer._get_optimizers()
            options["optimizers"] = {k: v for k, v in every.items() if k != FUSES}
        convert.convert.from_keras(made, output_path=str(path), **options)
    else:
        lite = path.with_suffix(".tflite")
        converter = import_module("tensorflow").lite.TFLiteConverter.from_keras_model(made)
        lite.write_bytes(converter.convert())
        import_module("tf2onnx").convert.from_tflite(str(lite), output_path=str(path))


def main(folder: Path, ways: list[str]) -> None:
    """All patterns, all ways; what a way cannot write is told in a file of its own."""
    for pattern in PATTERNS:
        made = model(pattern)
        for way in ways:
            path = folder / f"{way}+{pattern}{'.keras' if way == 'keras' else '.onnx'}"
            try:
                write(made, way, path)
            except Exception as error:  # whatever a converter raises
                path.with_suffix(".failed").write_text(f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
