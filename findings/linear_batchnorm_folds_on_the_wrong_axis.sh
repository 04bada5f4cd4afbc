#!/usr/bin/env bash
# torch 2.13.0: jit.freeze, nn.utils.fuse_linear_bn_eval, torch.fx's fuse, torch.ao's fuse_modules.
#
# Expected: an eval Linear + BatchNorm1d on (N, L, features) is left alone or refused. Linear acts
#   on the last axis and BatchNorm on axis 1, so no weight of the Linear can stand for the pair.
# What happens: only the two sizes are compared. Where L equals the Linear's out_features all four
#   fold without a word, and the values are wrong. At other lengths freeze leaves the pair alone
#   and the others raise AssertionError. On (N, features) all four are right.
# Seen (largest difference from eager):
#   (N, features): freeze 0.0000, fuse_linear_bn_eval 0.0000, fuse 0.0000, fuse_modules 0.0000
#   (N, L = features): freeze 3.5623, fuse_linear_bn_eval 3.5623, fuse 3.5623, fuse_modules 3.5623
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import torch
from torch import nn
from torch.ao.quantization import fuse_modules
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import fuse_linear_bn_eval

torch.manual_seed(0)


def pair(features: int, channels: int) -> nn.Sequential:
    norm = nn.BatchNorm1d(channels)
    for values in (norm.running_var, norm.weight.data):
        values.uniform_(0.5, 2.0)
    for values in (norm.running_mean, norm.bias.data):
        values.normal_()
    return nn.Sequential(nn.Linear(3, features), norm).eval()


FOLDS = {
    "freeze": lambda net: torch.jit.freeze(torch.jit.script(net)),
    "fuse_linear_bn_eval": lambda net: fuse_linear_bn_eval(net[0], net[1]),
    "fuse": fuse,
    "fuse_modules": lambda net: fuse_modules(net, ["0", "1"]),
}
net = pair(4, 4)
for title, x, right in (
    ("(N, features)", torch.randn(8, 3), True),
    ("(N, L = features)", torch.randn(8, 4, 3), False),
):
    with torch.no_grad():
        off = {name: (fold(net)(x) - net(x)).abs().max().item() for name, fold in FOLDS.items()}
    print(f"{title}:", ", ".join(f"{name} {value:.4f}" for name, value in off.items()))
    assert all((value < 1e-5) if right else (value > 0.5) for value in off.values()), off

net, x = pair(4, 5), torch.randn(8, 5, 3)
frozen = torch.jit.freeze(torch.jit.script(net))
assert "batch_norm" in str(frozen.inlined_graph) and torch.equal(frozen(x), net(x))
for name in ("fuse_linear_bn_eval", "fuse", "fuse_modules"):
    try:
        FOLDS[name](net)
    except AssertionError as error:
        assert "linear.out_features == bn.num_features" in str(error), error
    else:
        raise SystemExit(f"{name} folds 4 features into 5 channels")
EOF
