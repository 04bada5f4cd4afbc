#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export, both exporters, with onnxscript 0.7.2 and onnx-ir 1.1.0.
#
# Expected: two BatchNorm modules that share nothing have eight tensors in the file, each under its
#   own name, so that the names a node reads say which layer it is.
# What happens: equal values are stored once, whatever they are. In an untrained network gamma and
#   running_var (ones), and beta and running_mean (zeros), of all layers of a width are one tensor.
#   With dynamo=True every layer reads the first layer's names, and running_var is "0.weight".
#   With dynamo=False Identity nodes come between, so that the statistics are no initializers.
#   optimize=False keeps the tensors apart with dynamo=True and changes nothing with dynamo=False.
# Seen (what the second BatchNormalization reads as gamma, beta, mean and var):
#   dynamo, optimize: 0.weight 0.bias 0.bias 0.weight, 2 initializers, 0 Identity
#   dynamo: 2.weight 2.bias 2.running_mean 2.running_var, 8 initializers, 0 Identity
#   optimize: 2.weight 2.bias 2.running_mean 2.running_var, 2 initializers, 6 Identity
#   neither: 2.weight 2.bias 2.running_mean 2.running_var, 2 initializers, 6 Identity
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import io

import onnx
import torch
from torch import nn

OWN = ["2.weight", "2.bias", "2.running_mean", "2.running_var"]
SEEN = {
    (True, True): (["0.weight", "0.bias", "0.bias", "0.weight"], 2, 0),
    (True, False): (OWN, 8, 0),
    (False, True): (OWN, 2, 6),
    (False, False): (OWN, 2, 6),
}
net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)).eval()
for (dynamo, optimize), seen in SEEN.items():
    file = io.BytesIO()
    x = (torch.randn(2, 3, 4, 4),)
    torch.onnx.export(net, x, file, dynamo=dynamo, optimize=optimize, verbose=False)
    graph = onnx.load_from_string(file.getvalue()).graph
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    copies = [node for node in graph.node if node.op_type == "Identity"]
    identities = {node.output[0]: node.input[0] for node in copies}
    reads, stored = list(norms[1].input)[1:], {tensor.name for tensor in graph.initializer}
    title = ", ".join(["dynamo"] * dynamo + ["optimize"] * optimize) or "neither"
    counts = f"{len(stored)} initializers, {len(identities)} Identity"
    print(f"{title}: {' '.join(reads)}, {counts}")
    assert len(norms) == 2 and (reads, len(stored), len(identities)) == seen, seen
    if identities:
        behind = [identities[name] for name in reads]
        assert behind == ["0.weight", "0.bias", "0.bias", "0.weight"], behind
EOF
