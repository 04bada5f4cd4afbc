#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export(dynamo=True), the default, with onnxscript 0.7.2.
#
# Expected: a float64 model is exported in float64, its constants too, as dynamo=False and the
#   torch.export program that the exporter starts from keep them.
# What happens: a Python number in the model is rounded to float32 and stored as a float64 tensor.
#   Every type in the file says double, yet its outputs are good to about 1e-8: a comparison at
#   1e-10 fails, and no Cast and no float32 tensor in the file tells why.
# Seen:
#   dynamo=False  constants [0.1, 0.001]  largest difference 0.0e+00
#   dynamo=True   constants [0.10000000149011612, 0.0010000000474974513]  largest difference 4.6e-09
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import io

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper


class Affine(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.1 + 1e-3


torch.manual_seed(0)
net, x = Affine().eval(), torch.randn(64, dtype=torch.float64)
exact = net(x)
program = torch.export.export(net, (x,)).run_decompositions()
assert torch.equal(program.module()(x), exact)

for dynamo, kept in ((False, [0.1, 1e-3]), (True, [float(np.float32(c)) for c in (0.1, 1e-3)])):
    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, dynamo=dynamo, verbose=False)
    graph = onnx.load_from_string(file.getvalue()).graph
    nodes = [node.attribute[0].t for node in graph.node if node.op_type == "Constant"]
    tensors = [*graph.initializer, *nodes]
    assert {tensor.data_type for tensor in tensors} == {TensorProto.DOUBLE}
    constants = [numpy_helper.to_array(tensor).item() for tensor in tensors]
    session = onnxruntime.InferenceSession(file.getvalue())
    (z,) = session.run(None, {graph.input[0].name: x.numpy()})
    off = np.abs(z - exact.numpy()).max()
    print(f"dynamo={dynamo!s:5}  constants {constants}  largest difference {off:.1e}")
    assert z.dtype == np.float64 and sorted(constants) == sorted(kept), constants
    assert (1e-10 < off < 1e-7) if dynamo else off < 1e-15, off
EOF
