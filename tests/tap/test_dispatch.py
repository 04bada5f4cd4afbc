"""The tap: what it catches, what it leaves alone, and that nothing is left behind."""

from __future__ import annotations

import copy
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bnaudit
from bnaudit.errors import BnauditError, RunError
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped, Spread
from bnaudit.tap.call import BatchNormCall, normalise, plain
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.naming import Namer
from tests import nets

if TYPE_CHECKING:
    from bnaudit.records.report import Report


def labels(report: Report) -> list[str]:
    return [layer.label for layer in report.layers]


def audit(net: nn.Module, cls: type[nn.Module], **options: Any) -> Report:
    return bnaudit.audit(net, data=nets.inputs_for(cls), **options)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_as_it_was(training: bool) -> None:
    net = nets.make(nets.InPlace).train(training)
    net.get_submodule("body.1").eval()
    next(net.parameters()).requires_grad_(False)
    before, flags = state(net), [m.training for m in net.modules()]
    grads = [p.requires_grad for p in net.parameters()]
    audit(net, nets.InPlace)
    assert same(before, state(net))
    assert flags == [m.training for m in net.modules()]
    assert grads == [p.requires_grad for p in net.parameters()]
    assert all(p.grad is None for p in net.parameters())
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_the_model_comes_back_after_an_exception() -> None:
    net = nets.make(nets.InPlace).train()
    before = state(net)
    with pytest.raises(RunError, match="cannot be run on inputs of shape 24x3x8x8"):
        bnaudit.audit(net, data=torch.randn(24, 3, 8, 8))
    assert same(before, state(net))
    assert all(m.training for m in net.modules())
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    bn = nn.BatchNorm1d(3)
    assert torch.allclose(bn(x).mean(0), torch.zeros(3), atol=1e-6)
    assert bn.num_batches_tracked is not None
    assert bn.num_batches_tracked.item() == 1
    assert bn.running_mean is not None
    assert not torch.equal(bn.running_mean, torch.zeros(3))


def test_the_dispatcher_is_restored_exactly() -> None:
    before = torch._C._dispatch_dump("aten::batch_norm")
    net = nets.make(nets.Shared)
    audit(net, nets.Shared)
    with pytest.raises(ZeroDivisionError), tapped(Namer(net, {}), plain("batch")):
        raise ZeroDivisionError
    assert torch._C._dispatch_dump("aten::batch_norm") == before


def test_training_flag_does_not_matter() -> None:
    reports = [
        audit(nets.make(nets.PreActivation).train(t), nets.PreActivation) for t in (True, False)
    ]
    assert [x.first_order for x in reports[0].layers] == [x.first_order for x in reports[1].layers]


def test_dropout_is_off_even_for_a_model_in_training_mode() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.9), nn.BatchNorm1d(8)).train()
    report = bnaudit.audit(net, data=torch.randn(64, 6), channels=True)
    values = report.layers[0].channel_values
    assert not isinstance(values, Skipped)
    assert max(values.leak) < 0.01


def test_a_layer_used_twice_is_two_calls() -> None:
    report = audit(nets.make(nets.Shared), nets.Shared)
    assert labels(report) == ["bn", "bn#2"]
    assert [layer.call for layer in report.layers] == [1, 2]
    assert report.model.defined == ("bn",)


def test_layers_without_tensors_are_named_by_module() -> None:
    report = audit(nets.make(nets.Plain), nets.Plain)
    assert labels(report) == ["bn3", "bn2", "bn1"]
    assert [layer.kind for layer in report.layers] == ["BatchNorm3d", "BatchNorm2d", "BatchNorm1d"]
    assert [layer.affine for layer in report.layers] == [False, True, False]
    assert [layer.tracks_running_stats for layer in report.layers] == [True, False, False]
    assert isinstance(report.layers[1].gain_running, Skipped)


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.parametrize("cls", [nets.PreActivation, nets.InPlace, nets.Shared, nets.Plain])
def test_torchscript_gives_the_same_numbers(cls: type[nn.Module], kind: str) -> None:
    net = nets.make(cls).double()
    x = nets.inputs_for(cls).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net) if kind == "script" else torch.jit.trace(net, x)
    live, other = (bnaudit.audit(n, data=x, batch_size=8) for n in (net, scripted))
    assert labels(live) == labels(other)
    for a, b in zip(live.layers, other.layers, strict=True):
        assert isinstance(a.first_order, FirstOrder)
        assert isinstance(b.first_order, FirstOrder)
        assert isinstance(a.first_order.measured, Spread)
        assert isinstance(b.first_order.measured, Spread)
        assert a.first_order.measured.median == pytest.approx(
            b.first_order.measured.median, rel=1e-9
        )
        assert a.gain_batch == b.gain_batch


def test_scripted_control_flow_takes_the_branch_of_the_data() -> None:
    scripted = torch.jit.script(nets.make(nets.Branching))
    x = nets.inputs_for(nets.Branching)
    even = bnaudit.audit(scripted, data=x, batch_size=8)
    odd = bnaudit.audit(scripted, data=x, batch_size=9, batches=2)
    assert labels(even) == ["bn_even"]
    assert even.model.not_executed == ("bn_odd",)
    assert labels(odd) == ["bn_odd"]
    assert any(f.rule == "BN002" for f in odd.findings)


def test_a_module_that_ran_before_under_the_profiling_executor_is_measured() -> None:
    scripted = torch.jit.script(nets.make(nets.InPlace))
    x = nets.inputs_for(nets.InPlace)
    torch._C._jit_set_profiling_mode(True)
    for _ in range(3):
        scripted(x.requires_grad_()).sum().backward()
    report = bnaudit.audit(scripted, data=x.detach())
    assert [isinstance(layer.first_order, FirstOrder) for layer in report.layers] == [True, True]


def test_instance_norm_is_told_apart() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.BatchNorm2d(4),
    )
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    plain_output = net.eval()(x)
    with tapped(Namer(net, {}), plain("running")) as tap, torch.no_grad():
        tap.start()
        torch.testing.assert_close(net(x), plain_output)
        assert tap.log.instance_norms == 1
    report = bnaudit.audit(net, data=x)
    assert labels(report) == ["2"]
    assert report.model.instance_norms == 1


def test_only_instance_norm_is_no_batchnorm() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4))
    report = bnaudit.audit(net, data=torch.randn(6, 1, 8, 8))
    assert report.exit_code == 3
    assert "InstanceNorm" in report.findings[0].message


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_parameters_of_fewer_channels_are_refused(mode: str) -> None:
    """native_batch_norm, which carries a call out, would read past their end."""
    net = nn.BatchNorm2d(4).eval()
    with tapped(Namer(net, {}), plain(mode)) as tap, torch.no_grad():
        tap.start()
        with pytest.raises(RunError, match="has 8 channels, its parameters have 4"):
            net(torch.ones(2, 8, 3, 3))


def test_running_output_equals_the_eval_forward() -> None:
    net = nets.make(nets.PreActivation)
    x = nets.inputs_for(nets.PreActivation)
    with tapped(Namer(net, {}), plain("running")) as tap, torch.no_grad():
        tap.start()
        tapped_output = net(x)
    torch.testing.assert_close(tapped_output, net(x))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.reentrant:
            x = x.requires_grad_()
        x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return self.fc(x)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_counts_a_layer_once(reentrant: bool) -> None:
    torch.manual_seed(0)
    net = Checkpointed(reentrant).double()
    x = nets.inputs_for(nets.Shared).double()
    report = bnaudit.audit(net, data=x, labels=torch.arange(24) % 5, batch_size=24)
    plain_net = copy.deepcopy(net)
    plain_net.forward = lambda x: plain_net.fc(plain_net.block(plain_net.stem(x)))  # type: ignore[method-assign]
    expected = bnaudit.audit(plain_net, data=x, labels=torch.arange(24) % 5, batch_size=24)
    assert labels(report) == labels(expected) == ["block.1"]
    a, b = report.layers[0].first_order, expected.layers[0].first_order
    assert isinstance(a, FirstOrder)
    assert isinstance(b, FirstOrder)
    assert a.measured == b.measured


class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)


def test_a_model_under_no_grad_is_refused_by_name() -> None:
    with pytest.raises(RunError, match="without autograd") as caught:
        bnaudit.audit(NoGrad(), data=torch.randn(8, 6))
    assert caught.value.exit_code == 4


class ArgMax(nn.Module):
    def __init__(self, floating: bool) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.floating = floating

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x).argmax(1)
        return y.float() if self.floating else y


@pytest.mark.parametrize("floating", [True, False])
def test_an_output_without_gradient_is_explained(floating: bool) -> None:
    match = "no gradient flows" if floating else "no floating-point tensor"
    with pytest.raises(RunError, match=match):
        bnaudit.audit(ArgMax(floating), data=torch.randn(8, 6))


class DeadBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.BatchNorm1d(6)
        self.dead = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        self.dead(x)
        return self.used(x)


def test_a_layer_without_gradient_has_statistics_and_a_reason() -> None:
    report = bnaudit.audit(DeadBranch(), data=torch.randn(32, 6))
    dead = report.layers[0]
    assert dead.name == "dead"
    assert isinstance(dead.first_order, Skipped)
    assert "no gradient reaches" in dead.first_order.reason
    assert not isinstance(dead.sigma, Skipped)
    assert isinstance(report.layers[1].first_order, FirstOrder)


class Exploding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.BatchNorm1d(6)
        self.b = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).exp().exp().exp())


def test_a_loss_that_is_not_finite_names_the_layer() -> None:
    with pytest.raises(RunError, match="the input of b is the first that is not finite"):
        bnaudit.audit(Exploding(), data=torch.randn(32, 6))


def test_nested_handlers_see_a_private_normalisation() -> None:
    """`normalise` must not come back to the override it is called from."""
    seen: list[str] = []

    def handler(call: BatchNormCall) -> Tensor:
        seen.append(call.name)
        return normalise(call, call.x, "batch")

    net = nets.make(nets.Shared)
    with tapped(Namer(net, {}), handler) as tap:
        tap.start()
        net(nets.inputs_for(nets.Shared))
    assert seen == ["bn", "bn"]


class SelfModifying(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.w = nn.Parameter(torch.ones(6))
        self.count: Tensor
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.bn(x) * self.w


def test_buffers_that_the_model_writes_are_put_back() -> None:
    net = SelfModifying()
    bnaudit.audit(net, data=torch.randn(64, 6), batches=2)
    assert net.get_buffer("count").item() == 0


def test_a_model_that_writes_its_parameters_is_refused() -> None:
    net = SelfModifying()

    def write(_: nn.Module, __: object) -> None:
        with torch.no_grad():
            net.w[3] += 1

    net.register_forward_pre_hook(write)
    with pytest.raises(BnauditError, match="its own parameter 'w'"):
        bnaudit.audit(net, data=torch.randn(64, 6))


def test_m_of_one_and_two() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    one = bnaudit.audit(net, data=torch.randn(1, 6))
    assert isinstance(one.layers[0].first_order, Skipped)
    assert isinstance(one.layers[0].sigma, Skipped)
    assert [f.rule for f in one.findings if f.severity > Severity.INFO] == ["BN102"]
    assert one.exit_code == 4
    two = bnaudit.audit(net, data=torch.randn(2, 6))
    assert isinstance(two.layers[0].first_order, Skipped)
    assert "m = 2" in two.layers[0].first_order.reason
    assert not isinstance(two.layers[0].sigma, Skipped)
    assert two.exit_code == 4


def test_zero_gamma_gives_zero_and_no_division() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    nn.init.zeros_(net.get_submodule("1").get_parameter("weight"))
    order = bnaudit.audit(net, data=torch.randn(64, 6)).layers[0].first_order
    assert isinstance(order, FirstOrder)
    assert not isinstance(order.measured, Skipped)
    assert order.measured.median == 0
    assert isinstance(order.projection, Skipped)
    assert "gamma is zero" in order.projection.reason


@pytest.mark.parametrize("gamma", [1e-33, 1e-37, 1e-39, 1e-41, 1e-44])
def test_a_gamma_that_weight_decay_made_subnormal_is_no_integrity_failure(gamma: float) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with torch.no_grad():
        net.get_submodule("1").get_parameter("weight")[3] = gamma
    report = bnaudit.audit(net, data=torch.randn(64, 6))
    assert report.layers[0].measured
    assert "BN101" not in [f.rule for f in report.findings]


class Container(nn.Module):
    """A submodule without a forward of its own, as torchvision's DenseNet has."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {"a": nn.BatchNorm1d(6, affine=False, track_running_stats=False)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks.values():
            x = block(x)
        return x


def test_a_scripted_container_has_no_graph_and_is_no_obstacle() -> None:
    report = bnaudit.audit(torch.jit.script(Container()), data=torch.randn(16, 6))
    assert labels(report) == ["blocks.a"]


def test_a_batchnorm_that_is_the_model_has_its_class_for_a_name() -> None:
    x = torch.randn(32, 6)
    for net in (nn.BatchNorm1d(6), torch.jit.script(nn.BatchNorm1d(6))):
        report = bnaudit.audit(net, data=x)
        assert labels(report) == list(report.model.defined) == ["BatchNorm1d"]
        assert report.model.not_executed == ()


class Functional(nn.Module):
    """BatchNorm called on tensors of the model itself, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.mean_a: Tensor
        self.var_a: Tensor
        self.mean_b: Tensor
        self.var_b: Tensor
        for name in ("a", "b"):
            self.register_buffer(f"mean_{name}", torch.zeros(6))
            self.register_buffer(f"var_{name}", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.batch_norm(x, self.mean_a, self.var_a)
        return torch.nn.functional.batch_norm(torch.tanh(x), self.mean_b, self.var_b)


def test_functional_calls_are_told_apart_by_their_tensors() -> None:
    assert labels(bnaudit.audit(Functional(), data=torch.randn(32, 6))) == [
        "Functional(mean_a)",
        "Functional(mean_b)",
    ]


class Reassigning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return self.bn(x)


def test_buffers_that_the_model_replaces_are_put_back() -> None:
    net = Reassigning()
    original = net.steps
    bnaudit.audit(net, data=torch.randn(32, 6))
    assert net.steps is original
    assert net.steps.item() == 0


def test_parameters_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    with pytest.raises(RunError, match="inference_mode"):
        bnaudit.audit(net, data=torch.randn(32, 6))


def test_the_callers_autograd_modes_do_not_leak_in() -> None:
    net, x = nets.make(nets.InPlace), nets.inputs_for(nets.InPlace)
    expected = bnaudit.audit(net, data=x).layers
    with torch.inference_mode():
        assert bnaudit.audit(net, data=x).layers == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert bnaudit.audit(net, data=x).layers == expected


def test_a_lazy_layer_is_refused_by_name() -> None:
    with pytest.raises(BnauditError, match="'1' is lazy"):
        bnaudit.audit(nn.Sequential(nn.Linear(6, 6), nn.LazyBatchNorm1d()), data=torch.randn(8, 6))


def test_a_compiled_model_is_measured_without_its_wrapper() -> None:
    compiled: Any = torch.compile(nets.make(nets.Shared))
    report = bnaudit.audit(compiled, data=nets.inputs_for(nets.Shared))
    assert labels(report) == ["bn", "bn#2"]
    assert "torch.compile" in report.model.notes[0]


class Uncopyable(nn.Module):
    """Holds something that cannot be copied, so that there is no run in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def __deepcopy__(self, memo: object) -> Uncopyable:
        raise TypeError("a lock")

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x))


def test_a_failing_verification_is_skipped_and_not_the_end() -> None:
    report = bnaudit.audit(Uncopyable(), data=torch.randn(32, 6), verify_gradients="all")
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)
    assert isinstance(order.measured, Spread)
    assert isinstance(order.finite_difference, Skipped)
    assert "float64" in order.finite_difference.reason


def test_reentrant_checkpointing_leaves_the_optional_metrics_out() -> None:
    report = bnaudit.audit(
        Checkpointed(reentrant=True), data=nets.inputs_for(nets.Shared), metrics="all"
    )
    assert report.layers[0].measured
    assert isinstance(report.twins, Skipped)
    assert isinstance(report.layers[0].second_order, Skipped)


class _Legit(nn.Module):
    """Calls BatchNorm by the names that decomposed programs use."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        bn, ops = self.bn, torch.ops.aten
        tensors = (x, bn.weight, bn.bias, bn.running_mean, bn.running_var)
        z: Tensor = {
            "legit": lambda: ops._native_batch_norm_legit(*tensors, True, 0.1, bn.eps),
            "no_stats": lambda: ops._native_batch_norm_legit.no_stats(
                *tensors[:3], True, 0.1, bn.eps
            ),
            "no_training": lambda: ops._native_batch_norm_legit_no_training(*tensors, 0.1, bn.eps),
            "functional": lambda: ops._native_batch_norm_legit_functional(
                *tensors, True, 0.1, bn.eps
            ),
            "update": lambda: ops._batch_norm_with_update(*tensors, 0.1, bn.eps),
            "update_functional": lambda: ops._batch_norm_with_update_functional(
                *tensors, 0.1, bn.eps
            ),
            "no_update": lambda: ops._batch_norm_no_update(*tensors, 0.1, bn.eps),
        }[self.operator]()[0]
        return torch.tanh(z)


@pytest.mark.parametrize(
    "operator",
    ["legit", "no_stats", "no_training", "functional", "update", "update_functional", "no_update"],
)
@pytest.mark.parametrize("mode", ["batch", "running"])
def test_every_other_name_of_batchnorm_is_caught(operator: str, mode: str) -> None:
    """In a traced graph, as `run_decompositions` leaves it; only there are they looked for."""
    net = _Legit(operator)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*net.bn.parameters(), net.bn.running_mean, net.bn.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2.0, generator=generator)
    x = torch.randn(32, 6, generator=generator)
    graph = torch.fx.symbolic_trace(net)
    before = state(graph)
    report = bnaudit.audit(graph, data=x, mode=mode)
    plain_net = nn.Sequential(net.bn, nn.Tanh())
    wanted = bnaudit.audit(plain_net, data=x, mode=mode if operator != "no_stats" else "batch")
    assert labels(report) == ["bn"]
    assert report.layers[0].first_order.measured == wanted.layers[0].first_order.measured  # type: ignore[union-attr]
    assert same(before, state(graph))


def test_the_other_names_are_left_alone_where_no_graph_calls_them() -> None:
    name = "aten::_native_batch_norm_legit_no_training"
    before = torch._C._dispatch_dump(name)
    graph = torch.fx.symbolic_trace(_Legit("no_training"))
    for net, overridden in ((nn.Sequential(nn.BatchNorm1d(6)), False), (graph, True)):
        with tapped(Namer(net, {}), plain("batch")):
            assert (torch._C._dispatch_dump(name) != before) is overridden
        assert torch._C._dispatch_dump(name) == before


def test_two_threads_do_not_take_each_other_s_calls() -> None:
    """The override is the process's: without a lock a layer of one model lands in the other's report."""
    built = {"a": nets.make(nets.InPlace), "b": nets.make(nets.PreActivation)}
    wanted = {name: labels(audit(net, type(net))) for name, net in built.items()}
    found: list[tuple[str, object]] = []

    def work(name: str) -> None:
        for _ in range(6):
            try:
                found.append((name, labels(audit(built[name], type(built[name])))))
            except BnauditError as error:
                found.append((name, error))

    threads = [threading.Thread(target=work, args=(name,)) for name in built]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert all(seen == wanted[name] for name, seen in found), found


class _Held:
    """What a handler may hold: the activations of a batch."""

    def __call__(self, call: BatchNormCall) -> Tensor:
        return normalise(call, call.x, "batch")


def test_nothing_of_a_pass_outlives_it() -> None:
    """The dispatcher holds the last override until the next one is registered."""
    net, held = nn.Sequential(nn.BatchNorm1d(6)), _Held()
    seen = weakref.ref(held)
    with tapped(Namer(net, {}), held) as tap:
        tap.start()
        net(torch.randn(4, 6))
    del held, tap
    assert seen() is None


def test_compiled_parts_of_a_model_run_as_they_were_written() -> None:
    """The compiler would take what it meets into its graphs, and with it the code that records."""
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Any:
        compiled.append(graph)
        return graph.forward

    net = nets.make(nets.InPlace)
    wanted = audit(net, nets.InPlace)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.compile(backend=backend)
    report = audit(net, nets.InPlace, metrics="second_order")
    assert not compiled
    for ours, theirs in zip(report.layers, wanted.layers, strict=True):
        assert isinstance(ours.first_order, FirstOrder)
        assert isinstance(theirs.first_order, FirstOrder)
        assert ours.first_order.measured == theirs.first_order.measured
