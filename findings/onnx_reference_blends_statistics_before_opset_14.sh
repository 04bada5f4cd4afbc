#!/usr/bin/env bash
# onnx 1.23.2: onnx.reference.ReferenceEvaluator on BatchNormalization before opset 14.
#
# Expected: a node with one output, which is inference in opsets 7 to 13, gives
#   gamma * (x - mean) / sqrt(var + eps) + beta: this is the reference of the standard.
# What happens: opsets 7 and 8 raise TypeError for every such node. Opsets 9 to 13 normalise with
#   0.9 * running + 0.1 * batch statistics, so that a sample's output depends on its batch. Opset 14
#   and later are right, and onnxruntime 1.32.0 is right from 7 to 15; the checker passes them all.
#   (Pull request 8442 of onnx proposes a correction of opset 9.)
# Seen (largest difference from the formula in float64):
#   opset 7   onnxruntime 0.0000  reference TypeError: ... 'BatchNormalization_6' is a tuple ...
#   opset 8   onnxruntime 0.0000  reference TypeError: ... 'BatchNormalization_6' is a tuple ...
#   opset 9   onnxruntime 0.0000  reference 3.3781
#   opset 13  onnxruntime 0.0000  reference 3.3781
#   opset 14  onnxruntime 0.0000  reference 0.0000
#   opset 15  onnxruntime 0.0000  reference 0.0000
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" -I - <<'EOF'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

random = np.random.default_rng(0)
x = random.normal(3.0, 2.0, (8, 3, 4, 4)).astype(np.float32)
gamma, var = random.uniform(0.5, 2.0, (2, 3)).astype(np.float32)
beta, mean = random.normal(size=(2, 3)).astype(np.float32)
tensors = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}


def normalised(mean, var):
    c = [values.astype(float)[:, None, None] for values in (gamma, beta, mean, var)]
    return c[0] * (x - c[2]) / np.sqrt(c[3] + 1e-5) + c[1]


inference = normalised(mean, var)
batch = x.mean((0, 2, 3)), x.var((0, 2, 3))
blended = normalised(0.9 * mean + 0.1 * batch[0], 0.9 * var + 0.1 * batch[1])
for opset in (7, 8, 9, 13, 14, 15):
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *tensors], ["z"])],
        "one_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    off = np.abs(session.run(None, {"x": x})[0] - inference).max()
    try:
        (z,) = ReferenceEvaluator(model).run(None, {"x": x})
    except TypeError as error:
        print(f"opset {opset:<2}  onnxruntime {off:.4f}  reference TypeError: {error}")
        assert opset < 9 and "BatchNormalization_6' is a tuple" in str(error), opset
    else:
        reference = np.abs(z - inference).max()
        print(f"opset {opset:<2}  onnxruntime {off:.4f}  reference {reference:.4f}")
        assert opset >= 9, "opsets 7 and 8 run"
        assert np.allclose(z, blended if opset < 14 else inference, atol=1e-4), opset
    assert off < 1e-4, off
assert np.abs(blended - inference).max() > 0.1
EOF
