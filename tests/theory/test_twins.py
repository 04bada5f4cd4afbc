"""Twins against networks whose BatchNorm really has the other backward."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import UsageError
from bnaudit.records.twins import Upstream
from bnaudit.records.values import NOT_REQUESTED, Skipped
from tests import nets

if TYPE_CHECKING:
    from bnaudit.records.twins import Twin

LABELS = torch.arange(24) % 5


class Replaced(torch.autograd.Function):
    """Forward of BatchNorm on batch statistics; backward D G or G, written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float, kind: str) -> Tensor:
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean = x.mean(dims, keepdim=True)
        var = ((x - mean) ** 2).mean(dims, keepdim=True)
        ctx.scale = gamma.view(shape) / (var + eps).sqrt() if kind == "frozen" else 1.0
        return gamma.view(shape) * (x - mean) / (var + eps).sqrt() + beta.view(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.scale * grad, None, None, None, None


class Written(nn.Module):
    """Stands where a BatchNorm stood."""

    def __init__(self, bn: nn.Module, kind: str) -> None:
        super().__init__()
        self.bn, self.kind = bn, kind

    def forward(self, x: Tensor) -> Tensor:
        bn: Any = self.bn
        apply: Any = Replaced.apply
        return apply(x, bn.weight.detach(), bn.bias.detach(), bn.eps, self.kind)


def replaced(net: nn.Module, kind: str, names: list[str]) -> nn.Module:
    twin = copy.deepcopy(net)
    for name in names:
        parent, _, leaf = name.rpartition(".")
        owner = twin.get_submodule(parent)
        setattr(owner, leaf, Written(owner.get_submodule(leaf), kind))
    return twin


def norms(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Gradient norms with batch statistics, by plain training-mode backward."""
    net = net.train()
    net.zero_grad()
    torch.nn.functional.cross_entropy(net(x), LABELS).backward()
    return {
        n.replace(".bn.", "."): 0.0 if p.grad is None else float(p.grad.norm())
        for n, p in net.named_parameters()
    }


def audited(net: nn.Module, x: Tensor, **options: Any) -> tuple[Twin, ...]:
    report = bnaudit.audit(net, data=x, labels=LABELS, batch_size=24, metrics=("twins",), **options)
    assert not isinstance(report.twins, Skipped)
    return report.twins


@pytest.mark.parametrize("cls", [nets.PreActivation, nets.InPlace])
@pytest.mark.parametrize("alone", [False, True])
def test_gradients_of_the_twins(cls: type[nn.Module], alone: bool) -> None:
    net, x = nets.make(cls).double(), nets.inputs_for(cls).double()
    layers = [n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    chosen = layers[-1:] if alone else layers
    found = [t for t in audited(net, x, twins=layers[-1]) if (t.layer is not None) == alone]
    assert [t.kind for t in found] == ["frozen", "identity"]
    plain = norms(copy.deepcopy(net), x)
    for twin in found:
        other = norms(replaced(net, twin.kind, chosen), x)
        assert twin.loss_difference <= 1e-12
        assert twin.parameters
        for effect in twin.parameters:
            assert effect.grad_norm == pytest.approx(plain[effect.name], rel=1e-9, abs=1e-15)
            assert effect.twin_grad_norm == pytest.approx(other[effect.name], rel=1e-9, abs=1e-15)
        total = sum(e.twin_grad_norm**2 for e in twin.parameters) ** 0.5
        assert twin.twin_grad_norm == pytest.approx(total, rel=1e-12)
        # What is downstream of the replaced layers, or belongs to them, is not in the list.
        names = {e.name for e in twin.parameters}
        assert "fc.weight" not in names
        assert not {f"{c}.weight" for c in chosen} & names


def test_upstream_of_one_layer_includes_the_batchnorms_before_it() -> None:
    net, x = nets.make(nets.InPlace).double(), nets.inputs_for(nets.InPlace).double()
    alone = [t for t in audited(net, x, twins="body.4") if t.layer == "body.4"]
    assert {e.name for e in alone[0].parameters} == {
        "body.0.weight",
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "body.3.weight",
        "body.3.bias",
    }


def test_an_unknown_layer_is_refused_and_the_flags_come_back() -> None:
    net = nets.make(nets.InPlace)
    flags = [p.requires_grad for p in net.parameters()]
    with pytest.raises(UsageError, match="no such layer"):
        audited(net, nets.inputs_for(nets.InPlace), twins="nowhere")
    assert [p.requires_grad for p in net.parameters()] == flags


def test_a_frozen_file_has_no_parameters() -> None:
    scripted = torch.jit.freeze(torch.jit.script(nets.make(nets.Plain)), optimize_numerics=False)
    report = bnaudit.audit(scripted, data=nets.inputs_for(nets.Plain), metrics=("twins",))
    assert isinstance(report.twins, Skipped)


class Counting(nn.Module):
    """Its output depends on how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.bn = nn.BatchNorm1d(8)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.runs * self.bn(self.fc(x))


def test_a_forward_that_is_not_repeatable_has_twins_all_the_same() -> None:
    """They go back through one graph: the share that BatchNorm leaves is that of a single run."""
    net, x = Counting().double(), torch.randn(24, 6).double()
    counted = bnaudit.audit(net, data=x, loss="noise_mse", metrics=("twins",)).twins
    assert not isinstance(counted, Skipped)
    assert [t.kind for t in counted] == ["frozen", "identity"]
    assert all(t.twin_grad_norm > 0 and t.loss_difference == 0 for t in counted)


def test_upstream_is_the_identity_twin_of_all_layers() -> None:
    net, x = nets.make(nets.PreActivation).double(), nets.inputs_for(nets.PreActivation).double()
    identity = next(t for t in audited(net, x) if t.kind == "identity")
    report = bnaudit.audit(net, data=x, labels=LABELS, batch_size=24, metrics=("upstream",))
    assert isinstance(report.upstream, Upstream)
    assert report.twins == NOT_REQUESTED
    assert report.upstream.parameters == len(identity.parameters)
    assert report.upstream.grad_norm == pytest.approx(identity.grad_norm, rel=1e-12)
    assert report.upstream.twin_grad_norm == pytest.approx(identity.twin_grad_norm, rel=1e-12)


def test_upstream_is_measured_on_data_alone_and_on_batch_statistics() -> None:
    net = nets.make(nets.Plain)
    made_up = bnaudit.audit(net, input_shapes={"": (4, *nets.inputs_for(nets.Plain).shape[1:])})
    running = bnaudit.audit(net, data=nets.inputs_for(nets.Plain), mode="running")
    for report, word in ((made_up, "made up"), (running, "batch statistics")):
        assert isinstance(report.upstream, Skipped)
        assert word in report.upstream.reason


class Refuses(torch.autograd.Function):
    """Has a gradient for activations, and none for its weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.needs_input_grad[1]:
            raise ValueError("inference only")
        return grads[0] * ctx.saved_tensors[0], None


class InferenceOnly(nn.Module):
    """Whose weights cannot be differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))
        self.bn = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        apply: Any = Refuses.apply
        return self.bn(apply(x, self.weight)) ** 2


def test_weights_without_a_gradient_cost_this_number_alone() -> None:
    report = bnaudit.audit(InferenceOnly(), data=torch.randn(24, 6))
    assert isinstance(report.upstream, Skipped)
    assert "inference only" in report.upstream.reason
    assert report.layers[0].measured
