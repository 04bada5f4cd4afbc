"""Arguments that are no data, optional and keyword-only inputs, and inputs of several tensors."""

from __future__ import annotations

from typing import (  # noqa: UP035  # TorchScript reads these
    TYPE_CHECKING,
    Any,
    Dict,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import DataError, UsageError
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Spread
from bnaudit.values import Typed
from tests.load.files import MLP, script, trace

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.report import Report

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)


class Settings(Base):
    """The output depends on every argument."""

    def forward(  # noqa: PLR0917
        self,
        x: Tensor,
        n: int,
        mode: str,
        ratio: float = 0.5,
        flag: bool = False,
        shifts: Optional[List[float]] = None,  # noqa: UP006, UP045
        weights: Optional[Dict[str, float]] = None,  # noqa: UP006, UP045
        mask: Optional[Tensor] = None,  # noqa: UP045
        either: Union[int, str] = 1,  # noqa: UP007
        place: Optional[torch.device] = None,  # noqa: UP045
    ) -> Pair:
        y = self.bn(x) * float(n) * ratio
        if mode == "negative":
            y = -y
        if flag:
            y = y * 3.0
        if shifts is not None:
            for shift in shifts:
                y = y + shift
        if weights is not None:
            y = y * weights["a"]
        if mask is not None:
            y = y * mask
        if isinstance(either, str):
            y = y + 100.0
        if place is not None:
            y = y.to(place) + 1000.0
        return Pair(y, y)


class Tuples(Base):
    def forward(self, xs: Tuple[Tensor, Tensor], pair: Pair) -> Tensor:  # noqa: UP006
        y: Tensor = self.bn(xs[0] + 2 * xs[1]) + pair[0] * pair[1]
        return y


class Groups(Base):
    def forward(self, xs: List[Tensor], named: Optional[Dict[str, Tensor]] = None) -> Tensor:  # noqa: UP006, UP045
        y = self.bn(xs[0])
        for x in xs[1:]:
            y = y + x
        return y if named is None else y * named["scale"]


class LiveBatch(Base):
    def forward(self, batch: dict[str, Any], *, gain: Tensor | float = 1.0) -> dict[str, Tensor]:
        return {"logits": self.bn(batch["image"]) * batch["more"][0] * gain}


class Passing(nn.Module):
    """A wrapper with arguments of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = LiveBatch()

    def forward(self, **given: Any) -> Any:
        return self.inner({"image": given["a"], "more": [given["b"]]})


def loss_of(report: Report) -> float:
    assert report.run is not None
    assert isinstance(report.run.loss.value, Spread)
    assert isinstance(report.layers[0].first_order, FirstOrder)
    return report.run.loss.value.median


def mean_output(output: Any, _labels: Tensor | None = None) -> Tensor:
    return output.mean()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script(Settings().eval(), tmp_path_factory.mktemp("s") / "m.pt")


CASES: list[dict[str, Any]] = [
    {"n": 2, "mode": "positive"},
    {"n": 2, "mode": "negative"},
    {"n": 2, "mode": "positive", "ratio": 2},
    {"n": 2, "mode": "positive", "flag": True},
    {"n": 2, "mode": "positive", "shifts": [1, 2.5]},
    {"n": 2, "mode": "positive", "shifts": None},
    {"n": 2, "mode": "positive", "weights": {"a": 4}},
    {"n": 2, "mode": "positive", "mask": 0.25},
    {"n": 2, "mode": "positive", "either": "text"},
    {"n": 2, "mode": "positive", "either": 3},
    {"n": 2, "mode": "positive", "place": "cpu"},
]


@pytest.mark.parametrize("values", CASES)
def test_values_reach_the_scripted_model(settings: Path, values: dict[str, Any]) -> None:
    net = Settings()
    report = bnaudit.audit(settings, data=X, inputs=values)
    call = dict(values)
    if "mask" in call:
        call["mask"] = torch.tensor(call["mask"])
    if call.get("place"):
        call["place"] = torch.device(call["place"])
    if call.get("shifts"):
        call["shifts"] = [float(s) for s in call["shifts"]]

    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            return self.net(x, **call)

    wanted = bnaudit.audit(Bound(), data=X)
    assert loss_of(report) == pytest.approx(loss_of(wanted), rel=1e-6)
    assert report.run is not None
    assert report.run.inputs == values


def test_what_is_typed_is_read_by_the_arguments_type(settings: Path) -> None:
    typed = {"n": Typed("2"), "mode": Typed("1"), "shifts": Typed("[1, 2]"), "flag": Typed("true")}
    run = bnaudit.audit(settings, data=X, inputs=typed).run
    assert run is not None
    assert run.inputs == {"n": 2, "mode": "1", "shifts": [1.0, 2.0], "flag": True}


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ({"mode": "a"}, "needs a value for its argument 'n' (int)"),
        ({"n": 1}, "needs a value for its argument 'mode' (str)"),
        ({"n": 1.5, "mode": "a"}, "--input n=1.5: the argument takes int"),
        ({"n": True, "mode": "a"}, "--input n=True: the argument takes int"),
        ({"n": 1, "mode": 2}, "--input mode=2: the argument takes str"),
        ({"n": 1, "mode": "a", "flag": 1}, "the argument takes bool"),
        ({"n": 1, "mode": "a", "shifts": 3}, "takes Optional[List[float]]"),
        ({"n": 1, "mode": "a", "shifts": ["x"]}, "takes Optional[List[float]]"),
        ({"n": 1, "mode": "a", "either": 1.5}, "takes Union[int, str]"),
        ({"n": 1, "mode": "a", "place": "tpu9"}, "takes Optional[Device]"),
        ({"n": 1, "mode": "a", "mask": "x"}, "takes Optional[Tensor]"),
        ({"n": 1, "mode": "a", "ration": 1}, "no such argument, did you mean 'ratio'?"),
    ],
)
def test_values_that_do_not_fit_are_told(settings: Path, values: dict[str, Any], fact: str) -> None:
    with pytest.raises(UsageError) as caught:
        bnaudit.audit(settings, data=X, inputs=values)
    assert fact in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_tuples_of_tensors_are_inputs_of_their_own(tmp_path: Path, kind: str) -> None:
    net = Tuples().eval()
    if kind == "scripted":
        path = script(net, tmp_path / "m.pt")
    else:
        path = trace(net, ((X, X), Pair(X, X)), tmp_path / "m.pt")
    data = {"xs": (X, X.flip(0)), "pair": (X, X)}
    report = bnaudit.audit(path, data=data)
    assert [s.name for s in report.model.inputs] == ["xs.0", "xs.1", "pair.0", "pair.1"]
    live = bnaudit.audit(net, data={"xs": (X, X.flip(0)), "pair": Pair(X, X)})
    order, wanted = report.layers[0].first_order, live.layers[0].first_order
    assert isinstance(order, FirstOrder)
    assert isinstance(wanted, FirstOrder)
    assert order.measured == wanted.measured


def test_lists_and_mappings_of_tensors_are_given_by_member(tmp_path: Path) -> None:
    path = script(Groups().eval(), tmp_path / "m.pt")
    two = bnaudit.audit(path, data={"xs": [X, X]})
    three = bnaudit.audit(path, data={"xs.0": X, "xs.1": X, "xs.2": X})
    assert loss_of(two) != loss_of(three)
    with_dict = bnaudit.audit(path, data={"xs": [X, X], "named": {"scale": X}})
    assert loss_of(with_dict) != loss_of(two)
    shapes = {"xs.0": (16, 4), "xs.1": (16, 4)}
    assert len(bnaudit.audit(path, input_shapes=shapes).layers) == 1
    arrays: dict[str, Any] = {"xs.0": X.numpy(), "xs.1": X.numpy()}
    np.savez(tmp_path / "b.npz", **arrays)
    assert loss_of(bnaudit.audit(path, data=str(tmp_path / "b.npz"))) == loss_of(two)
    with pytest.raises(DataError, match="no array 'xs'"):
        bnaudit.audit(path, data={"named": {"scale": X}})
    with pytest.raises(UsageError, match="'xs' takes several tensors"):
        bnaudit.audit(path)


def test_a_live_model_takes_nested_and_keyword_data() -> None:
    data = {"batch": {"image": X, "more": [X]}}
    report = bnaudit.audit(LiveBatch(), data=data)
    with_gain = bnaudit.audit(LiveBatch(), data={**data, "gain": X})
    typed = bnaudit.audit(LiveBatch(), data=data, inputs={"gain": 3.0})
    assert len({loss_of(report), loss_of(with_gain), loss_of(typed)}) == 3
    assert bnaudit.audit(Passing(), data={"a": X, "b": X}).layers[0].label == "inner.bn"


def test_data_by_name_chooses_among_optional_arguments() -> None:
    class Either(Base):
        def forward(
            self, ids: Tensor | None = None, embedded: Tensor | None = None, labels: Any = None
        ) -> Tensor:
            assert labels is None
            y: Tensor = self.bn(ids if embedded is None else embedded)
            return y

    for name in ("ids", "embedded"):
        data = {name: X, "labels": torch.arange(32) % 4}
        report = bnaudit.audit(Either(), data=data)
        assert report.run is not None
        assert report.run.loss.name == "cross_entropy"
    assert len(bnaudit.audit(Either(), data=X).layers) == 1
    with pytest.raises(DataError, match=r"no input of the model \(it has: pixels\)"):
        bnaudit.audit(Either(), data={"pixels": X})
    with pytest.raises(DataError, match="'pixels' is not an input of the model"):
        bnaudit.audit(Either(), data={"ids": X, "pixels": X})


def test_an_input_of_an_onnx_file_may_be_set() -> None:
    path = MLP / "model.onnx"
    with pytest.raises(UsageError, match=r"takes float32 tensor \[batch, 30\]"):
        bnaudit.audit(path, inputs={"x": 1})
    with pytest.raises(DataError, match="set with --input as well"):
        bnaudit.audit(path, data={"x": torch.zeros(4, 30)}, inputs={"x": [[0.5] * 30] * 4})


def test_values_are_strict_json() -> None:
    class Ignoring(Base):
        def forward(self, x: Tensor, limit: float = 1.0) -> Tensor:
            y: Tensor = self.bn(x)
            return y

    report = bnaudit.audit(Ignoring(), data=X, inputs={"limit": float("inf")})
    assert '"limit": "inf"' in report.to_json()
