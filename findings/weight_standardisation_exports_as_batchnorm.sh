#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export(dynamo=False); then onnxscript 0.7.2: optimizer.optimize.
#
# Expected: weight standardisation, F.batch_norm(weight, None, None, training=True), has no running
#   statistics and depends on no input: constant folding, which is on, leaves one weight.
# What happens: torch stops folding before ReduceMean, and writes a BatchNormalization of the weight
#   whose mean and var are computed by ReduceMean nodes. The optimizer folds those and not the
#   BatchNormalization, so that its mean and var are stored tensors, as a trained layer's running
#   statistics are: here the mean and variance of the filters. training_mode=1 alone tells.
#   dynamo=True writes a plain Conv.
# Seen (the kinds of operators, in order):
#   dynamo=False: Constant ReduceMean Sub Mul BatchNormalization Reshape Conv
#   dynamo=False, optimized: BatchNormalization Reshape Conv; statistics of the filters: True
#   dynamo=True: Conv
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import io

import numpy as np
import onnx
import onnxscript.optimizer
import torch
from onnx import numpy_helper
from torch.nn import functional


class StandardisedConv(torch.nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = functional.batch_norm(rows, None, None, training=True)
        return functional.conv2d(x, rows.reshape(self.weight.shape), self.bias)


def exported(dynamo: bool) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.onnx.export(net, (torch.randn(1, 3, 8, 8),), file, dynamo=dynamo, verbose=False)
    return onnx.load_from_string(file.getvalue())


def kinds(model: onnx.ModelProto) -> list[str]:
    return list(dict.fromkeys(node.op_type for node in model.graph.node))


torch.manual_seed(0)
net = StandardisedConv(3, 4, 3).eval()
plain = exported(dynamo=False)
print("dynamo=False:", *kinds(plain))
assert kinds(plain) == "Constant ReduceMean Sub Mul BatchNormalization Reshape Conv".split()

optimised = onnxscript.optimizer.optimize(plain)
(norm,) = (node for node in optimised.graph.node if node.op_type == "BatchNormalization")
stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in optimised.graph.initializer}
_, gamma, beta, mean, var = (stored[name] for name in norm.input)
rows = net.weight.detach().numpy().reshape(4, -1).astype(float)
same = np.allclose(var, rows.var(1), rtol=1e-4) and np.allclose(mean, rows.mean(1), atol=1e-6)
print("dynamo=False, optimized:", *kinds(optimised), end=f"; statistics of the filters: {same}\n")
assert same and (gamma == 1).all() and (beta == 0).all()
assert kinds(optimised) == ["BatchNormalization", "Reshape", "Conv"]
assert [a.i for a in norm.attribute if a.name == "training_mode"] == [1]

default = exported(dynamo=True)
print("dynamo=True:", *kinds(default))
assert kinds(default) == ["Conv"]
EOF
