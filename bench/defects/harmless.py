"""Changes after which nothing is wrong: the function is the same, or the audit is another one of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.defects.cases import Harmless, Subject, recompute
from bench.defects.nets import NETS

if TYPE_CHECKING:
    from bench.defects.cases import Change

ALL = tuple(NETS)
IMAGES = ("conv", "depthwise", "preactivation", "concat")
CLASSES = tuple(name for name, info in NETS.items() if info.target == "class")


@dataclass(frozen=True, slots=True)
class Site:
    """A BatchNorm with the layer in front of it and, where only an activation lies between, behind.

    Attributes:
        front: whose output it normalises.
        bn: its name.
        behind: what reads it through a ReLU-like activation; empty where more than one layer does.
    """

    front: str
    bn: str
    behind: str = ""


SITES = {
    "conv": Site("convs.1", "bns.1", "convs.2"),
    "tabular": Site("fc1", "bn1", "fc2"),
    "raw_features": Site("body.0", "body.1"),
    "sequence": Site("conv1", "bn1"),
    "depthwise": Site("blocks.1.project", "blocks.1.bn3"),
    "preactivation": Site("block1.conv1", "block1.bn2", "block1.conv2"),
    "autoencoder": Site("enc1", "bn1", "enc2"),
}
SITED = tuple(SITES)
CHAINED = tuple(name for name, site in SITES.items() if site.behind)


def _site(case: Subject) -> Site:
    """That of the network the case is about."""
    kind = type(case.net)
    name = next(n for n, info in NETS.items() if type(info.make()) is kind)
    return SITES[name]


def _front(case: Subject) -> tuple[Tensor, Tensor | None]:
    """Weight with its output axis first, and bias, of the layer in front."""
    layer = case.net.get_submodule(_site(case).front)
    bias = getattr(layer, "bias", None)
    return case.weight(_site(case).front), bias


def _rescale(factors: Tensor, case: Subject) -> None:
    """W -> kW a channel, and the statistics with it."""
    weight, bias = _front(case)
    shape = (-1, *([1] * (weight.dim() - 1)))
    weight.mul_(factors.view(shape))
    if bias is not None:
        bias.mul_(factors)
    mean, var = case.stored(_site(case).bn)
    mean.mul_(factors)
    var.mul_(factors.square())


def _channels(case: Subject) -> int:
    return case.bn(_site(case).bn).num_features


def _scaled(factor: float) -> Change:
    return lambda case: _rescale(torch.full((_channels(case),), factor), case)


def _scaled_apart(case: Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    _rescale(2 ** (2 * torch.rand(_channels(case), generator=generator) - 1), case)


def _signs(case: Subject) -> None:
    """W -> -W in every other channel, with gamma to match."""
    signs = torch.ones(_channels(case))
    signs[::2] = -1
    _rescale(signs, case)
    case.bn(_site(case).bn).weight.mul_(signs)


def _permuted(case: Subject) -> None:
    """Channels in another order, in all that make and read them."""
    order = torch.randperm(_channels(case), generator=torch.Generator().manual_seed(0))
    site, bn = _site(case), case.bn(_site(case).bn)
    weight, bias = _front(case)
    read = case.weight(site.behind)
    for t in (weight, bias, bn.weight, bn.bias, bn.running_mean, bn.running_var):
        if t is not None:
            t.copy_(t[order].clone())
    read.copy_(read[:, order].clone())


def _gamma_moved(case: Subject) -> None:
    """Gamma and beta times k, the weights behind divided by it: the activation is homogeneous."""
    generator = torch.Generator().manual_seed(0)
    factors = 2 ** (4 * torch.rand(_channels(case), generator=generator) - 2)
    site, bn = _site(case), case.bn(_site(case).bn)
    bn.weight.mul_(factors)
    bn.bias.mul_(factors)
    read = case.weight(site.behind)
    read.div_(factors.view(1, -1, *([1] * (read.dim() - 2))))


def _without_affine(case: Subject) -> None:
    """Gamma = 1 and beta = 0, written as affine=False; an affine layer behind does what they did."""
    site = _site(case)
    bn = case.bn(site.bn)
    gamma, beta = bn.weight.clone(), bn.bias.clone()
    plain = type(bn)(bn.num_features, eps=bn.eps, affine=False).eval()
    assert plain.running_mean is not None  # noqa: S101
    assert plain.running_var is not None  # noqa: S101
    for now, before in zip(
        (plain.running_mean, plain.running_var), case.stored(site.bn), strict=True
    ):
        now.copy_(before)
    parent, _, child = site.bn.rpartition(".")
    case.net.get_submodule(parent).register_module(child, _Affine(plain, gamma, beta))


class _Affine(nn.Module):
    def __init__(self, norm: nn.Module, gamma: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("scale", gamma)
        self.register_buffer("shift", beta)

    def forward(self, x: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (x.dim() - 2)
        out: Tensor = self.norm(x) * self.scale.view(shape) + self.shift.view(shape)  # type: ignore[operator]
        return out


def _bias_moved(case: Subject) -> None:
    """A constant added in front, and to the running mean."""
    _, bias = _front(case)
    assert bias is not None  # noqa: S101
    bias.add_(3.0)
    case.stored(_site(case).bn)[0].add_(3.0)


def _larger_eps(case: Subject) -> None:
    """TensorFlow's eps of 1e-3; the running variances give it back."""
    for name in case.norms():
        bn, (_, var) = case.bn(name), case.stored(name)
        if float(var.min()) > 0.05:
            var.add_(bn.eps - 1e-3)
            bn.eps = 1e-3


def _options(**options: object) -> Change:
    return lambda case: case.options.update(options)


def _opset(version: int) -> Change:
    def change(case: Subject) -> None:
        case.opset = version

    return change


def _dynamo(case: Subject) -> None:
    case.dynamo = True


def _shuffled(case: Subject) -> None:
    order = torch.randperm(len(case.x), generator=torch.Generator().manual_seed(1))
    case.x, case.labels = case.x[order], case.labels[order]


def _sorted(case: Subject) -> None:
    order = case.labels.argsort(stable=True)
    case.x, case.labels = case.x[order], case.labels[order]


def _rows(count: int) -> Change:
    """Hardly any rows, cut as bnaudit does by itself."""

    def change(case: Subject) -> None:
        case.x, case.labels = case.x[:count], case.labels[:count]
        case.options["batch_size"] = None

    return change


def _one_class(case: Subject) -> None:
    chosen = case.labels == case.labels[0]
    case.x, case.labels = case.x[chosen], case.labels[chosen]
    case.options["batch_size"] = None


def _synchronised(case: Subject) -> None:
    case.net = nn.SyncBatchNorm.convert_sync_batchnorm(case.net).eval()


def _channels_last(case: Subject) -> None:
    case.net = case.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    case.x = case.x.contiguous(memory_format=torch.channels_last)


def _momentum(value: float | None) -> Change:
    def change(case: Subject) -> None:
        for name in case.norms():
            case.bn(name).momentum = value

    return change


def _half(case: Subject) -> None:
    case.net.half()
    case.x = case.x.half()


def _averaged(case: Subject) -> None:
    """Weights near the trained ones, as an average over the last steps has, and their own statistics."""
    generator = torch.Generator().manual_seed(0)
    for p in case.net.parameters():
        if p.dim() > 1:
            p.add_(0.02 * p.std() * torch.randn(p.shape, generator=generator))
    recompute(case)


def _double(case: Subject) -> None:
    case.net.double()
    case.x = case.x.double()
    if case.labels.is_floating_point():
        case.labels = case.labels.double()


def _unlabelled(case: Subject) -> None:
    case.options["labels"] = None


CHANGES = (
    Harmless("as trained", ALL, lambda _: None),
    Harmless("W -> 8 W with its statistics", SITED, _scaled(8.0)),
    Harmless("W -> W/4 with its statistics", SITED, _scaled(0.25)),
    Harmless("W -> kW, k of each channel its own", SITED, _scaled_apart),
    Harmless("signs of W and gamma flipped", SITED, _signs),
    Harmless("channels permuted", CHAINED, _permuted),
    Harmless("gamma and beta -> k, weights behind -> 1/k", CHAINED, _gamma_moved),
    Harmless("affine=False, an affine layer behind", SITED, _without_affine),
    Harmless(
        "a bias in front, in the running mean too",
        ("tabular", "sequence", "autoencoder"),
        _bias_moved,
    ),
    Harmless("eps 1e-3 with statistics to match", ALL, _larger_eps),
    Harmless("float64", ALL, _double),
    Harmless("audited in float64", ALL, _options(dtype="float64")),
    Harmless("batches of 16", ALL, _options(batch_size=16)),
    Harmless("batches of 64", ALL, _options(batch_size=64, batches=4)),
    Harmless("three batches", ALL, _options(batches=3)),
    Harmless("other rows", ALL, _shuffled),
    Harmless("running statistics", ALL, _options(mode="running")),
    Harmless("without labels", ALL, _unlabelled),
    Harmless("single rows", IMAGES, _options(batch_size=1, batches=64)),
    Harmless("batches of 8", ALL, _options(batch_size=8)),
    Harmless("batches of 128", ALL, _options(batch_size=128, batches=2)),
    Harmless("one batch", ALL, _options(batches=1)),
    Harmless("32 rows", ALL, _rows(32)),
    Harmless("16 rows", ALL, _rows(16)),
    Harmless("8 rows", IMAGES, _rows(8)),
    Harmless("rows of one class", CLASSES, _one_class),
    Harmless("rows sorted by label", CLASSES, _sorted),
    Harmless("float16", ("conv", "tabular", "depthwise"), _half),
    Harmless("audited in bfloat16", ("conv", "tabular", "depthwise"), _options(dtype="bfloat16")),
    Harmless("SyncBatchNorm", ("conv", "tabular"), _synchronised),
    Harmless("channels last", ("conv", "depthwise"), _channels_last),
    Harmless("momentum 0.01", ("conv", "tabular"), _momentum(0.01)),
    Harmless("momentum None, a cumulative average", ("conv", "tabular"), _momentum(None)),
    Harmless("averaged weights with their statistics", ALL, _averaged),
    Harmless("opset 9", ("conv", "tabular"), _opset(9), ("onnx",)),
    Harmless("opset 20", ("conv", "tabular"), _opset(20), ("onnx",)),
    Harmless("opset 13", ALL, _opset(13), ("onnx",)),
    Harmless("torch.export's ONNX", ("conv", "tabular", "depthwise"), _dynamo, ("onnx",)),
)
