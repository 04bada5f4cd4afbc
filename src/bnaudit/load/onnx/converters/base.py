"""What a converter is: a node and the graph it stands in -> a module and the values it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bnaudit.load.onnx.draft import Draft, attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto


class Converted(NamedTuple):
    """One node as a module.

    Attributes:
        module: returns a tensor, or a tuple with one entry an output of the node.
        inputs: names of the values to call it with; "" is passed as None.
        tuple_always: whether it returns a tuple even for a node with a single output.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    tuple_always: bool = False


Converter = Callable[["NodeProto", Draft], Converted]


class Apply(nn.Module):
    """A function without parameters of its own, as a module that shows what it does."""

    def __init__(self, function: Callable[..., Any], label: str) -> None:
        super().__init__()
        self.function = function
        self.label = label

    def forward(self, *tensors: torch.Tensor | None) -> Any:
        """The function of the node's inputs."""
        return self.function(*tensors)

    def extra_repr(self) -> str:
        """The operator."""
        return self.label


def apply(node: NodeProto, function: Callable[..., Any]) -> Converted:
    """A parameterless node: its inputs go to `function` in their order, omitted ones as None."""
    return Converted(Apply(function, node.op_type), tuple(node.input))


def options(node: NodeProto) -> dict[str, Any]:
    """The node's attributes, typed loosely: each converter knows its operator's schema."""
    return dict(attributes(node))


def input_name(node: NodeProto, index: int) -> str:
    """The name of an input, "" where it is omitted."""
    return node.input[index] if index < len(node.input) else ""


def constant(draft: Draft, node: NodeProto, index: int) -> NDArray[Any] | None:
    """The value of an input that is known now, else None."""
    return draft.constants.get(input_name(node, index))


def tensor(array: NDArray[np.generic]) -> torch.Tensor:
    """A private copy: the arrays may be views into the file's bytes."""
    return torch.from_numpy(np.array(array))


def parameter(array: NDArray[np.generic]) -> nn.Parameter:
    """A weight under the name of the attribute it is assigned to."""
    value = tensor(array)
    return nn.Parameter(value, requires_grad=value.is_floating_point())
