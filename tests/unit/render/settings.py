"""The model and the run that the sample reports share."""

from __future__ import annotations

from dataclasses import replace

from bnaudit.records.model import ModelInfo, TensorInfo
from bnaudit.records.run import DataInfo, LossInfo, RunInfo

from .builders import spread

MODEL = ModelInfo(
    path="resnet_digits.onnx",
    format="onnx",
    producer="pytorch 2.13.0",
    facts={"opset": "17"},
    inputs=(TensorInfo("image", ("batch", 3, 32, 32), "float32"),),
    outputs=("logits",),
    parameters=272_474,
    defined=(),
)

RUN = RunInfo(
    mode="batch",
    device="cpu",
    dtype="float32",
    seed=0,
    metrics=("first_order", "second_order", "statistics"),
    data=DataInfo("file", ("digits.npz",), 4, 64, 1797),
    loss=LossInfo(
        "cross_entropy", False, "y in digits.npz", "one integer label a row", spread(0.0834, 0.2)
    ),
    verify_gradients=None,
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
    seconds={"load": 0.21, "measure": 1.94},
)

SYNTHETIC = replace(
    RUN,
    data=DataInfo("synthetic", (), 8, 16, None, "standard normal"),
    loss=LossInfo("noise_mse", True, None, "no labels were given", spread(1.02)),
    notes=("The batch size of the file (1) was lifted to 16; the row check passed.",),
)
