#!/usr/bin/env bash
# onnxruntime 1.32.0: graph optimisation, on the CPU.
#
# Expected: an inference BatchNormalization behind a fully connected layer is folded into it, as it
#   is behind Conv; a bias changes nothing, the formula is the same.
# What happens: MatMul + BatchNormalization becomes one Gemm at ORT_ENABLE_BASIC and above. A Gemm
#   keeps its BatchNormalization at every level, with a bias and without; and MatMul + Add is made
#   a Gemm first, so that adding a bias to a layer that was folded brings its BatchNorm back.
# Seen (operators of the saved graph, the same at ORT_ENABLE_BASIC, _EXTENDED and _ALL; there, nodes
#   that change Conv's memory layout left out):
#   MatMul: Gemm
#   MatMul Add: Gemm BatchNormalization
#   Gemm: Gemm BatchNormalization
#   Gemm with bias: Gemm BatchNormalization
#   Conv with bias: Conv
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" -I - "$folder/optimised.onnx" <<'EOF'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LEVELS = onnxruntime.GraphOptimizationLevel
random = np.random.default_rng(0)
node = helper.make_node
CASES = {
    "MatMul": [node("MatMul", ["x", "w"], ["y"])],
    "MatMul Add": [node("MatMul", ["x", "w"], ["q"]), node("Add", ["q", "c"], ["y"])],
    "Gemm": [node("Gemm", ["x", "w"], ["y"])],
    "Gemm with bias": [node("Gemm", ["x", "w", "c"], ["y"])],
    "Conv with bias": [node("Conv", ["x", "w", "c"], ["y"])],
}
for name, nodes in CASES.items():
    conv = name.startswith("Conv")
    shapes = {"w": (6, 4, 1, 1) if conv else (4, 6)}
    shapes |= dict.fromkeys(("c", "gamma", "beta", "mean", "var"), 6)
    tensors = {key: random.uniform(0.5, 2.0, shape) for key, shape in shapes.items()}
    graph = helper.make_graph(
        [*nodes, node("BatchNormalization", ["y", "gamma", "beta", "mean", "var"], ["z"])],
        "one_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 5, 5] if conv else [2, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), key) for key, v in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for level in (LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = sys.argv[1]
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options)
        kinds = [n.op_type for n in onnx.load(sys.argv[1]).graph.node]
        kinds = [kind for kind in kinds if not kind.startswith("Reorder")]
        print(f"{name}: {' '.join(kinds)} ({level.name})")
        kept = name in ("MatMul Add", "Gemm", "Gemm with bias")
        layer = "Conv" if conv else "Gemm"
        assert kinds == ([layer, "BatchNormalization"] if kept else [layer]), kinds
EOF
