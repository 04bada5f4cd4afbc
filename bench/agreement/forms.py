"""The forms that a network comes in, and the files that the onnx package ships."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor, nn

from bench.agreement.compare import Agreement, compared
from bench.agreement.nets import ROWS, network
from bench.vision.cells import Way, write
from bench.vision.real import with_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

LIVE, LAST = "live", "live, channels last"
PROGRAM, LIGHT = "exported program", "ONNX file"
_WAYS = {
    "scripted": Way("scripted"),
    "traced": Way("traced"),
    "ONNX, TorchScript exporter": Way("torchscript", 17),
    "ONNX, dynamo exporter": Way("dynamo", 18),
}
EVERY = (LIVE, LAST, *_WAYS, PROGRAM)

NETWORKS: dict[str, Sequence[str]] = {
    "resnet18": EVERY,
    "resnet50": (LIVE,),
    "mobilenet_v2": EVERY,
    "mobilenet_v3_small": EVERY,
    "efficientnet_b0": EVERY,
    "densenet121": (LIVE,),
    "googlenet": (LIVE,),
    "inception_v3": (LIVE,),
    "shufflenet_v2_x1_0": EVERY,
    "regnet_y_400mf": (LIVE,),
    "vgg11_bn": (LIVE,),
    "unet": EVERY,
    "attention": EVERY,
    "light_resnet50": (LIGHT,),
    "light_densenet121": (LIGHT,),
    "light_inception_v2": (LIGHT,),
    "light_shufflenet": (LIGHT,),
}

_OWN_SIDE = ("light_shufflenet",)
"""Its channels are shuffled by reshapes to fixed planes."""

_SHRUNK = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One network in one form."""

    network: str
    form: str

    @property
    def slug(self) -> str:
        """For a file's name."""
        return f"{self.network}.{self.form}".replace(", ", "-").replace(" ", "_")


def cases(names: Sequence[str]) -> list[Case]:
    """All forms of some networks."""
    return [Case(name, form) for name in names for form in NETWORKS[name]]


def measured(case: Case, folder: Path) -> Agreement:
    """Makes the network, writes it where its form is a file, and compares.

    Args:
        case: which.
        folder: for the file.
    """
    if case.form == LIGHT:
        path = light(case.network, folder)
        return compared(path, torch.randn(ROWS, *_sizes(path), generator=_seeded()))
    net, x = network(case.network)
    if case.form == LIVE:
        return compared(net, x)
    if case.form == LAST:
        return compared(*channels_last(net, x))
    path = folder / "model"
    if case.form == PROGRAM:
        _program(net, x, path)
    else:
        write(_WAYS[case.form], net, x, path)
    return compared(path, x, trust=True)


def channels_last(net: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """The same in the other memory layout."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net, x.contiguous(memory_format=torch.channels_last)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _program(net: nn.Module, x: Tensor, path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with path.open("wb") as file:
            torch.export.save(torch.export.export(net, (x,)), file)


def light(name: str, folder: Path) -> Path:
    """A light model of the onnx package with random weights and, where it can be, a small image.

    As they are shipped, weights are constants and the gradient is what rounding leaves.
    """
    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{name}.onnx"
    path = with_weights(source, folder)
    if name in _OWN_SIDE:
        return path
    model = onnx.load(path)
    for node in model.graph.node:
        sizes = [list(a.ints) for a in node.attribute if a.name == "kernel_shape"]
        if node.op_type == "AveragePool" and sizes == [[7, 7]]:
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    for dim in _image(model).type.tensor_type.shape.dim[2:]:
        dim.dim_value = _SHRUNK
    del model.graph.value_info[:]
    onnx.save(model, path)
    return path


def _image(model: Any) -> Any:
    stored = {tensor.name for tensor in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in stored)


def _sizes(path: Path) -> list[int]:
    """Channels, height and width of the input."""
    shape = _image(onnx.load(path)).type.tensor_type.shape
    return [dim.dim_value for dim in shape.dim[1:]]
