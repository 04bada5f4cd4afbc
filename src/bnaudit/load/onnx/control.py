"""If, Loop and Scan: their bodies become modules that are run as often as the data says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from onnx import GraphProto, ValueInfoProto, numpy_helper
from torch import nn

from bnaudit.load.onnx.converters.base import Converted, input_name, options
from bnaudit.load.onnx.draft import Draft, Source, is_floating, reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

_MOST_STEPS = 100_000
"""A Loop without a count runs until its body says stop, which a damaged file never does."""


class Body(NamedTuple):
    """A subgraph as a module.

    Attributes:
        module: takes the graph's own inputs, then what it captures; returns a tuple.
        captured: names of the values of the surrounding graph that it reads.
    """

    module: nn.Module
    captured: tuple[str, ...]


class If(nn.Module):
    """One of two branches."""

    def __init__(self, then: Body, otherwise: Body) -> None:
        super().__init__()
        self.then_branch = then.module
        self.else_branch = otherwise.module
        self.split = len(then.captured)

    def forward(self, condition: torch.Tensor, *captured: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of the branch that the condition chooses."""
        if bool(condition):
            taken: tuple[torch.Tensor, ...] = self.then_branch(*captured[: self.split])
        else:
            taken = self.else_branch(*captured[self.split :])
        return taken


class Loop(nn.Module):
    """A body that hands values on to its next step, and may collect some of every step."""

    def __init__(self, body: Body, carried: int) -> None:
        super().__init__()
        self.body = body.module
        self.carried = carried

    def forward(
        self, count: torch.Tensor | None, go: torch.Tensor | None, *rest: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The values carried out of the last step, then what was collected, stacked."""
        values, captured = rest[: self.carried], rest[self.carried :]
        steps = None if count is None else int(count)
        on, step, collected = go is None or bool(go), 0, []
        while on and (steps is None or step < steps):
            if step == _MOST_STEPS:
                raise RuntimeError(f"a Loop runs for more than {_MOST_STEPS} steps")
            flags = torch.tensor(step), torch.tensor(True)
            condition, *results = self.body(*flags, *values, *captured)
            values = tuple(results[: self.carried])
            collected.append(results[self.carried :])
            on, step = bool(condition), step + 1
        return (*values, *(torch.stack(parts) for parts in zip(*collected, strict=True)))


class Scan(nn.Module):
    """A body that is run for each slice of some inputs."""

    def __init__(self, body: Body, node: NodeProto, outputs: int) -> None:
        super().__init__()
        values = options(node)
        self.body = body.module
        self.scanned = int(values["num_scan_inputs"])
        self.state = len([name for name in node.input if name]) - self.scanned
        zeros = [0] * max(self.scanned, outputs)
        self.axes = list(values.get("scan_input_axes", zeros))
        self.backwards = list(values.get("scan_input_directions", zeros))
        self.output_axes = list(values.get("scan_output_axes", zeros))
        self.output_backwards = list(values.get("scan_output_directions", zeros))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The last state, then what was collected, stacked."""
        state, rest = inputs[: self.state], inputs[self.state :]
        sequences = [
            x.flip(axis) if back else x
            for x, axis, back in zip(rest[: self.scanned], self.axes, self.backwards, strict=False)
        ]
        slices = [x.unbind(axis) for x, axis in zip(sequences, self.axes, strict=False)]
        collected = []
        for parts in zip(*slices, strict=True):
            results = self.body(*state, *parts, *rest[self.scanned :])
            state = tuple(results[: self.state])
            collected.append(results[self.state :])
        stacked = []
        for index, parts in enumerate(zip(*collected, strict=True)):
            ordered = parts[::-1] if self.output_backwards[index] else parts
            stacked.append(torch.stack(ordered, self.output_axes[index]))
        return (*state, *stacked)


def convert(node: NodeProto, assemble: Callable[[GraphProto, str], Body]) -> Converted:
    """A node with subgraphs.

    Args:
        node: the If, Loop or Scan.
        assemble: makes a body of a subgraph, under a name.
    """
    graphs = {a.name: assemble(a.g, a.name) for a in node.attribute if a.HasField("g")}
    if node.op_type == "If":
        then, otherwise = graphs["then_branch"], graphs["else_branch"]
        inputs = (node.input[0], *then.captured, *otherwise.captured)
        return Converted(If(then, otherwise), inputs, tuple_always=True)
    body = graphs["body"]
    if node.op_type == "Loop":
        carried = tuple(node.input)[2:]
        inputs = (input_name(node, 0), input_name(node, 1), *carried, *body.captured)
        return Converted(Loop(body, len(carried)), inputs, tuple_always=True)
    inputs = (*node.input, *body.captured)
    return Converted(Scan(body, node, len(node.output)), inputs, tuple_always=True)


OPERATORS = frozenset({"If", "Loop", "Scan"})


def subdraft(draft: Draft, graph: GraphProto) -> tuple[Draft, tuple[str, ...]]:
    """A subgraph as a graph of its own, whose last inputs are what it reads from around it.

    Its nodes are of the file's opset: onnx's converter does not look into subgraphs.
    """
    own = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inside = {value.name for value in graph.input} | own.keys() | _written(graph)
    read = [name for node in graph.node for name in reads(node)]
    read += [value.name for value in graph.output]
    outside = dict.fromkeys(name for name in read if name not in inside)
    captured = tuple(name for name in outside if name not in draft.constants)
    inputs = list(graph.input)
    for name in captured:
        inputs.append(ValueInfoProto(name=name))
        if name in draft.types:
            inputs[-1].type.CopyFrom(draft.types[name])
    sources = {n: Source(n) for n, array in own.items() if is_floating(array)}
    sub = Draft(
        path=draft.path,
        nodes=list(graph.node),
        constants={n: draft.constants[n] for n in outside if n in draft.constants} | own,
        inputs=inputs,
        outputs=list(graph.output),
        opset=draft.file_opset,
        file_opset=draft.file_opset,
        domains=draft.domains,
        notes=draft.notes,
        sources={n: draft.sources[n] for n in outside if n in draft.sources} | sources,
        parameters=draft.parameters,
    )
    return sub, captured


def _written(graph: GraphProto) -> set[str]:
    """Names that the subgraph, or one inside it, gives to values of its own."""
    names: set[str] = set()
    for node in graph.node:
        names.update(node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _written(inner)
                names.update(value.name for value in inner.input)
                names.update(tensor.name for tensor in inner.initializer)
    return names
