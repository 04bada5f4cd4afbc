"""Live modules: which arguments a batch fills, and what is no module."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import InputError
from bnaudit.load import load
from tests.load.files import MLP

if TYPE_CHECKING:
    from pathlib import Path

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)
        self.fc = nn.Linear(4, 2)


class Plain(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(x))


class Two(Net):
    def forward(self, a: Tensor, b: Tensor, scale: float = 2.0, *, flag: bool = False) -> Tensor:
        return self.fc(self.bn(a + b)) * scale


class AllOptional(Net):
    def forward(
        self, pixels: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert pixels is not None
        assert labels is None
        return {"logits": self.fc(self.bn(pixels))}


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Plain()

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.inner(*inputs, **kwargs)


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (Plain(), ["x"]),
        (Two(), ["a", "b"]),
        (AllOptional(), ["pixels"]),
        (Wrapper(), ["inputs"]),
        (nn.Sequential(nn.BatchNorm1d(4)), ["input"]),
    ],
)
def test_the_inputs_are_what_forward_needs(net: nn.Module, names: list[str]) -> None:
    assert [s.name for s in load(net).inputs] == names
    data = X if len(names) == 1 else (X, X)
    assert len(bnaudit.audit(net, data=data).layers) == 1


def test_a_data_parallel_module_is_audited() -> None:
    report = bnaudit.audit(nn.DataParallel(Plain()), data=X)
    assert [layer.label for layer in report.layers] == ["module.bn"]


def test_a_scripted_module_in_memory() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(Plain())
    report = bnaudit.audit(scripted, data=X)
    assert [layer.label for layer in report.layers] == ["bn"]
    assert report.model.format == "module"


@pytest.mark.parametrize("thing", [None, b"model.onnx", 3, lambda x: x, {"state": X}, X])
def test_what_is_no_module_is_refused(thing: Any) -> None:
    with pytest.raises(InputError, match=r"neither a path nor a torch\.nn\.Module") as caught:
        bnaudit.audit(thing, data=X)
    assert caught.value.exit_code == 2


def test_an_exported_program_says_how() -> None:
    program = torch.export.export(Plain().eval(), (X,))
    with pytest.raises(InputError) as caught:
        bnaudit.audit(program, data=X)  # type: ignore[arg-type]
    assert "program.module()" in str(caught.value.hint)
    assert len(bnaudit.audit(program.module(), data=X).layers) == 1


@pytest.mark.parametrize("path", [str(MLP / "model.onnx"), MLP / "model.onnx"])
def test_paths_as_text_or_path(path: str | Path) -> None:
    assert load(path).format == "onnx"


def test_layers_are_listed_once_with_channels_and_origin() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.BatchNorm1d(3), nn.BatchNorm1d(4))
    net.append(net[1])
    found = [(d.name, d.channels, d.origin) for d in load(net).batchnorms]
    assert found == [
        ("0", 4, "module '0' (BatchNorm1d)"),
        ("1", 3, "module '1' (BatchNorm1d)"),
        ("2", 4, "module '2' (BatchNorm1d)"),
    ]
    (alone,) = load(nn.BatchNorm2d(5)).batchnorms
    assert (alone.name, alone.channels, alone.origin) == (
        "BatchNorm2d",
        5,
        "the model itself (BatchNorm2d)",
    )
