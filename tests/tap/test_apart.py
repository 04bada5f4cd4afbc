"""Calls of BatchNorm's kernel that are no layers: on weights, and on a batch folded into the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # the field's name for it

from bnaudit import audit
from bnaudit.errors import BnauditError
from bnaudit.records.finding import Severity
from bnaudit.records.verification import Verification
from tests import nets

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.report import Report

EPS = 1e-6


class Standardised(nn.Conv2d):
    """The weight through `batch_norm`, as big transfer-learning networks do it."""

    def weight_of(self) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        return F.batch_norm(flat, None, None, training=True, eps=EPS).reshape_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight_of(), self.bias, self.stride, self.padding)


class Transposed(Standardised):
    """The same as a matrix with the output channels behind: as many rows as a batch may have."""

    def weight_of(self) -> Tensor:
        found = F.batch_norm(self.weight.flatten(1).t(), None, None, training=True, eps=EPS)
        return found.t().reshape_as(self.weight)


class Scaled(Standardised):
    """With a gain of its own, and statistics that nobody updates."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.full((self.out_channels,), 0.7))
        self.zeros: Tensor
        self.ones: Tensor
        self.register_buffer("zeros", torch.zeros(self.out_channels))
        self.register_buffer("ones", torch.ones(self.out_channels))

    def weight_of(self) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        found = F.batch_norm(flat, self.zeros, self.ones, self.gain, None, True, 0.0, EPS)
        return found.reshape_as(self.weight)


class ByDefinition(Standardised):
    """What `Standardised` means, without `batch_norm`."""

    def weight_of(self) -> Tensor:
        var, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        return (self.weight - mean) / (var + EPS).sqrt()


class ScaledByDefinition(ByDefinition):
    def weight_of(self) -> Tensor:
        return super().weight_of() * 0.7


def net(conv: type[nn.Conv2d], *, norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(6) if norm else nn.Identity()
    found = nn.Sequential(
        conv(2, 6, 3), middle, nn.ReLU(), conv(6, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    return nets.randomise(found).eval() if norm else found.eval()


X = torch.randn(18, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def saved(model: nn.Module, form: str, folder: Path) -> Any:
    """The model itself, or a file of it."""
    if form == "live":
        return model
    path = folder / f"net.{form}"
    if form == "pt":
        torch.jit.trace(model, X[:2]).save(path)
    elif form == "decomposed.pt2":
        torch.export.save(torch.export.export(model, (X,)).run_decompositions(), path)
    elif form == "pt2":
        rows = {0: torch.export.Dim("rows", min=2, max=64)}
        torch.export.save(torch.export.export(model, (X[:2],), dynamic_shapes=(rows,)), path)
    else:
        torch.onnx.export(
            model,
            (X[:2],),
            path,
            input_names=["input"],
            dynamo=False,
            opset_version=17,
            dynamic_axes={"input": {0: "rows"}},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return path


def numbers(report: Report) -> list[float]:
    return [layer.first_order.measured.median for layer in report.layers]  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["live", "pt", "pt2", "decomposed.pt2", "onnx"])
@pytest.mark.parametrize(
    ("cls", "definition"),
    [
        (Standardised, ByDefinition),
        (Transposed, ByDefinition),
        (Scaled, ScaledByDefinition),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_weight_is_no_layer_and_the_layers_are_those_of_the_definition(
    cls: type[nn.Conv2d], definition: type[nn.Conv2d], form: str, tmp_path: Path
) -> None:
    """A matrix of 18 rows is as long as the batch here: what counts is where it comes from."""
    options: dict[str, Any] = {"data": X, "batches": 1, "batch_size": 18, "dtype": "float64"}
    report = audit(
        saved(net(cls), form, tmp_path), trust=True, metrics=("second_order",), **options
    )
    expected = audit(net(definition), metrics=("second_order",), **options)
    assert [layer.name for layer in report.layers] == ["1"]
    assert report.model.defined == ("1",)
    assert numbers(report) == pytest.approx(numbers(expected), rel=1e-6)
    assert not [f for f in report.findings if f.rule in {"BN102", "BN203", "BN005"}]
    assert not [
        f for f in report.findings if f.layer in {"0", "3"} and f.severity is not Severity.INFO
    ]
    assert any("standardises" in note for note in report.model.notes)


@pytest.mark.parametrize("cls", [Standardised, Transposed, Scaled])
@pytest.mark.filterwarnings("ignore")
def test_a_runtime_agrees(cls: type[nn.Conv2d], tmp_path: Path) -> None:
    """It has to run what standardises weights in training mode, though everything else in inference mode."""
    report = audit(saved(net(cls), "onnx", tmp_path), data=X, verify=True)
    assert report.run is not None
    assert isinstance(report.run.verification, Verification)
    assert report.run.verification.agrees


def test_the_same_weights_give_the_same_numbers_exactly_enough() -> None:
    """Without a file between them, and in float64, the two agree to rounding."""
    report, expected = (
        audit(net(cls).double(), data=X.double(), batches=2, batch_size=9, metrics=("twins",))
        for cls in (Standardised, ByDefinition)
    )
    assert numbers(report) == pytest.approx(numbers(expected), rel=1e-9)
    assert [t.grad_norm for t in report.twins] == pytest.approx(  # type: ignore[union-attr]
        [t.grad_norm for t in expected.twins],  # type: ignore[union-attr]
        rel=1e-9,
    )


@pytest.mark.parametrize("form", ["live", "pt2", "decomposed.pt2", "onnx"])
@pytest.mark.filterwarnings("ignore")
def test_where_nothing_else_is_left_there_is_no_batchnorm(form: str, tmp_path: Path) -> None:
    report = audit(saved(net(Standardised, norm=False), form, tmp_path), data=X, trust=True)
    assert report.exit_code == 3
    (finding,) = [f for f in report.findings if f.rule == "BN001"]
    assert "another normalisation" in finding.message
    assert "standardises them" in finding.message
    assert not report.layers


class Adaptive(nn.Module):
    """Adaptive instance norm: the style gives gamma and beta, the batch is folded into the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style = nn.Linear(2, 2 * channels)
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        b, c = x.shape[:2]
        gamma, beta = self.style(s).chunk(2, dim=1)
        stats = (self.mean.repeat(b), self.var.repeat(b))
        flat = x.reshape(1, b * c, *x.shape[2:])
        gains = ((1 + gamma).reshape(-1), beta.reshape(-1))
        return F.batch_norm(flat, *stats, *gains, True, 0.1, EPS).view_as(x)


class AdaptiveByDefinition(Adaptive):
    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gamma, beta = (t[..., None, None] for t in self.style(s).chunk(2, dim=1))
        return F.instance_norm(x, eps=EPS) * (1 + gamma) + beta


class Plain(Adaptive):
    """Without a style: one row, and nothing that tells it from a BatchNorm of many channels."""

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        flat = x.reshape(1, -1, x.shape[2] * x.shape[3])
        return F.batch_norm(flat, None, None, training=True, eps=EPS).view_as(x)


class PlainByDefinition(Adaptive):
    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return F.instance_norm(x, eps=EPS)


class Styled(nn.Module):
    def __init__(self, norm: type[Adaptive]) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.first, self.second = norm(4), norm(4)
        self.b = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = torch.relu(self.first(torch.relu(self.bn(self.a(x))), s))
        return self.second(self.b(x), s)


@pytest.mark.parametrize(
    ("cls", "definition"), [(Adaptive, AdaptiveByDefinition), (Plain, PlainByDefinition)]
)
@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_batch_folded_into_the_channels_is_an_instance_norm(
    cls: type[Adaptive], definition: type[Adaptive], scripted: bool, tmp_path: Path
) -> None:
    reports = []
    style = torch.randn(18, 2)
    for norm in (cls, definition):
        torch.manual_seed(0)
        model: Any = nets.randomise(Styled(norm)).double().eval()
        if scripted and norm is cls:
            torch.jit.trace(model, (X[:3].double(), style[:3].double())).save(tmp_path / "net.pt")
            model = str(tmp_path / "net.pt")
        data = {"x": X.double(), "s": style.double()}
        reports.append(audit(model, data=data, batches=2, batch_size=6, metrics=("statistics",)))
    report, expected = reports
    assert [layer.name for layer in report.layers] == ["bn"]
    assert report.model.instance_norms == expected.model.instance_norms * 1
    assert numbers(report) == pytest.approx(numbers(expected), rel=1e-9)
    # Buffers that nothing updates are no statistics at their initial values.
    assert not [
        f for f in report.findings if f.rule in {"BN005", "BN201", "BN202"} and f.layer != "bn"
    ]


class Alone(nn.Module):
    def __init__(self, norm: type[Adaptive]) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(2, 4, 3), norm(4), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return self.b(torch.relu(self.norm(torch.relu(self.a(x)), s)))


@pytest.mark.parametrize("cls", [Adaptive, Plain])
@pytest.mark.filterwarnings("ignore")
def test_where_only_folded_batches_are_left_the_sentence_says_so(
    cls: type[Adaptive], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    style = torch.randn(18, 2)
    torch.jit.trace(Alone(cls).eval(), (X[:3], style[:3])).save(str(tmp_path / "net.pt"))
    report = audit(tmp_path / "net.pt", data={"x": X, "s": style}, batches=2, batch_size=6)
    assert report.exit_code == 3
    (told,) = (f for f in report.findings if f.rule == "BN001")
    assert "another normalisation. Evidence: batch_norm runs on a batch folded" in told.message
    assert told.fix.startswith("none:")
    assert "freeze" not in told.message + told.fix


@pytest.mark.parametrize("cls", [Adaptive, Plain])
def test_one_row_leaves_it_open_and_that_is_said(cls: type[Adaptive]) -> None:
    torch.manual_seed(0)
    model = nets.randomise(Styled(cls)).eval()
    data = {"x": X[:2], "s": torch.randn(2, 2)}
    one = audit(model, data=data, batches=2, batch_size=1)
    (note,) = (n for n in one.model.notes if "one row does not tell" in n)
    assert "--batch-size 2 tells" in note
    assert not [f for f in one.findings if f.rule in {"BN201", "BN202"} and f.layer != "bn"]
    two = audit(model, data=data, batches=1, batch_size=2)
    assert not [n for n in two.model.notes if "one row" in n]
    plain = nets.randomise(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))).eval()
    assert not audit(plain, data=X[:2], batches=2, batch_size=1).model.notes


class Points(nn.Module):
    """All points of a batch as one row of (1, C, points): a BatchNorm, though C is a multiple of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(2, 6), nn.Linear(6, 3)
        self.bn = nn.BatchNorm1d(6, affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        points = self.fc(x).flatten(0, 1).t()[None]
        return self.out(self.bn(points)[0].t()).unflatten(0, x.shape[:2])


class Words(nn.Module):
    """Integers carry no gradient, but data all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 3)
        self.bn = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.bn(self.embed(words).mean(1)))


class Overwritten(nn.Module):
    """A constant that the data is written into."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.out = nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        held = torch.zeros(x.shape[0], 4)
        held[:, :2].copy_(x)
        held[:, 2:].add_(x * x)
        return self.out(self.bn(held))


@pytest.mark.parametrize(
    ("cls", "data"),
    [
        (Points, torch.randn(12, 5, 2)),
        (Words, torch.randint(0, 7, (12, 5))),
        (Overwritten, torch.randn(12, 2)),
    ],
)
def test_layers_on_data_stay_layers(cls: type[nn.Module], data: Tensor) -> None:
    torch.manual_seed(0)
    report = audit(cls().eval(), data=data, batches=2, batch_size=6)
    assert [layer.name for layer in report.layers] == ["bn"]
    assert report.model.instance_norms == 0


def test_a_batch_of_one_row_is_not_taken_for_a_fold() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    report = audit(model.eval(), data=X[:2], batches=2, batch_size=1)
    assert [layer.name for layer in report.layers] == ["1"]


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.bn = 0, nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.bn(x)


def test_nothing_is_run_once_more_where_nothing_is_in_doubt() -> None:
    trained = Counting()
    nets.randomise(trained)
    started = Counting()
    for model in (trained, started):
        audit(
            model.eval(), data=torch.randn(12, 2), batches=3, batch_size=4, metrics=("first_order",)
        )
    assert trained.calls == 4  # one shows what it returns, before a loss is chosen
    assert started.calls > 4


class Refusing(nn.Module):
    """Cannot be run without a gradient, as the look at its calls would."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            raise ValueError("training only")
        return self.bn(x)


def test_a_model_that_cannot_be_looked_at_is_audited_as_it_was() -> None:
    try:
        report = audit(Refusing(), data=torch.randn(12, 2), batches=2, batch_size=4)
    except BnauditError as error:  # pragma: no cover
        pytest.fail(error.message)
    assert [layer.name for layer in report.layers] == ["bn"]
