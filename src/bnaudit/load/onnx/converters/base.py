"""What a converter is: a node and the graph it stands in -> a module and the values it reads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bnaudit.load.onnx.draft import Draft, attributes, is_uniform, may_be_merged

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


def shared(node: NodeProto, draft: Draft, index: int, array: NDArray[np.generic]) -> nn.Parameter:
    """The parameter of an initializer: one for all nodes that read it.

    Args:
        node: who reads it.
        draft: the graph, with the parameters made so far.
        index: of the node's input.
        array: its value, in the layout it is wanted in.
    """
    name = node.input[index]
    source = draft.sources.get(name)
    if source is None:
        return parameter(array)
    key: list[Hashable] = [source.name, array.shape, array.dtype.str, source.layout]
    if source.layout == "T" and array is not draft.constants[name]:
        key[-1] = ""  # flipped back
    if may_be_merged(array):
        # Such only count as shared together with the rest of the layer.
        others = tuple(
            draft.sources[n].name
            for n in node.input[1:]
            if n in draft.sources and n in draft.constants and not is_uniform(draft.constants[n])
        )
        key += [index, others or node.name]
    return draft.parameters.setdefault(tuple(key), parameter(array))


def parameter(array: NDArray[np.generic]) -> nn.Parameter:
    """A weight under the name of the attribute it is assigned to."""
    value = tensor(array)
    return nn.Parameter(value, requires_grad=value.is_floating_point())
