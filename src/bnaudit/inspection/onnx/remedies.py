"""The exact call, for what wrote a file, that keeps BatchNorm in it."""

from __future__ import annotations

import re

from bnaudit.inspection.absent import BEFORE_DEPLOYMENT

DYNAMO = "torch.onnx.export(net.eval(), (x,), path, dynamo=True, optimize=False)"
_TORCHSCRIPT = (
    "torch.onnx.export(net.eval(), (x,), path, dynamo=False, "
    "training=torch.onnx.TrainingMode.PRESERVE)"
)
_DYNAMO_FLAG_SINCE = (2, 5)

KERAS = (
    "save the Keras model itself with model.save('model.keras') ('model.h5' in old versions) and give "
    "that file to bnaudit inspect, which reads all four vectors"
)
"""What is left where TensorFlow itself, Keras 3's export or TFLite takes BatchNormalization apart."""

KEEP = {
    "onnxruntime": "audit the file that ONNX Runtime was given; to write an optimised file that keeps "
    "BatchNorm set SessionOptions.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL",
    "onnxsim": "simplify without folding: onnxsim --skip-fuse-bn IN.onnx OUT.onnx",
    "onnxslim": "slim without folding: onnxslim IN.onnx OUT.onnx --skip-fusion-patterns FusionConvBN "
    "FusionConvTransposeBN",
    "tf2onnx": "convert without the optimiser that folds: tf2onnx.convert.from_keras(model, "
    "output_path=path, optimizers={k: v for k, v in tf2onnx.optimizer._get_optimizers().items() "
    'if k != "remove_back_to_back"})',
    "keras": KERAS,
    "tflite": f"the TFLite converter folds in any case: {KERAS}",
    "ultralytics": "export the model that was not fused: net = YOLO(weights).model.float().eval(); "
    f"{DYNAMO}",
    "reparameterised": BEFORE_DEPLOYMENT,
    "paddle2onnx": "convert the model as trained, before any of Paddle's inference passes, with "
    "paddle2onnx --optimize_tool None",
}
"""Tool -> what to do with it. PyTorch's exporters: `keep`."""


def keep(tool: str, exporter: str, version: str) -> str:
    """What to do so that BatchNorm is kept.

    Args:
        tool: what folded it, as a trace names it; "" where that is not known.
        exporter: what wrote the file, as `facts.exporter` names it.
        version: of the exporter, as the file has it.
    """
    if tool in KEEP:
        return KEEP[tool]
    if tool == "dynamo" or (tool != "torchscript" and exporter == "torch.onnx dynamo"):
        call = f"export it with {DYNAMO}"
    elif tool == "torchscript" or exporter == "torch.onnx TorchScript":
        call = f"export it with {_TORCHSCRIPT}"
        # dynamo=False names the exporter where there are two of them, and fails before that.
        found = re.match(r"(\d+)\.(\d+)", version)
        if found is not None and (int(found[1]), int(found[2])) < _DYNAMO_FLAG_SINCE:
            call += " (PyTorch before 2.5 has no dynamo=False: leave it out there)"
    elif exporter == "tf2onnx":
        call = KERAS
    elif exporter in KEEP:
        call = KEEP[exporter]
    else:
        call = f"audit the file from before the optimisation; from PyTorch export it with {DYNAMO}"
    if tool == "optimiser" and exporter.startswith("torch.onnx"):
        return f"audit the file from before the optimiser that folded it, or {call} and do not optimise"
    return call
