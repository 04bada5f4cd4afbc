"""The normalised graph into one torch module, node by node."""

from __future__ import annotations

import re
import warnings
from functools import partial
from typing import TYPE_CHECKING

from torch import fx, nn

from bnaudit.errors import InputError
from bnaudit.load.onnx import control
from bnaudit.load.onnx.converters.base import shared, tensor
from bnaudit.load.onnx.converters.lookup import convert_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnx import GraphProto, NodeProto

    from bnaudit.load.onnx.converters.base import Converted
    from bnaudit.load.onnx.draft import Draft
    from bnaudit.load.onnx.origin import Origin

_OPTIONAL_OUTPUTS = frozenset({"MaxPool", "LayerNormalization", "BatchNormalization"})
"""Their modules return the first output alone; the others must be unused."""

_QUANTISED = re.compile("[Qq]uantize|QLinear|QGemm|Integer$")


def assemble(
    draft: Draft,
    origins: Mapping[str, Origin],
    settle: Callable[[Draft], None],
    *,
    as_tuple: bool = False,
) -> tuple[nn.Module, dict[str, str], dict[str, str]]:
    """A module that takes the draft's inputs in order and returns its outputs in order.

    Args:
        draft: normalised.
        origins: node key -> the node in the file.
        settle: normalises the body of an If, Loop or Scan.
        as_tuple: whether a single output comes in a tuple too.

    Returns:
        The module in eval mode, node key -> path of its submodule, and path of a submodule that
        holds a parameter for operators without any -> the author's name of its owner.

    Raises:
        InputError: a node has no translation; it is named.
    """
    builder = _Builder(draft, origins, settle)
    for node in draft.nodes:
        builder.add(node)
    return builder.finish(as_tuple=as_tuple)


class _Builder:
    """An fx graph in the making: value names of the file -> nodes of the graph."""

    def __init__(
        self, draft: Draft, origins: Mapping[str, Origin], settle: Callable[[Draft], None]
    ) -> None:
        self.draft = draft
        self.origins = origins
        self.settle = settle
        self.readers = draft.consumers()
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.paths: dict[str, str] = {}
        self.holders: dict[str, str] = {}
        self.values: dict[str, fx.Node] = {
            value.name: self.graph.placeholder(f"input_{index}")
            for index, value in enumerate(draft.inputs)
        }

    def add(self, node: NodeProto) -> None:
        path = f"{node.op_type}_{len(self.paths)}"
        module, inputs, is_tuple = self._convert(node, path)
        self.paths[node.name or path] = path
        self.root.add_module(path, module)
        arguments = tuple(self._value(name, node) if name else None for name in inputs)
        called = self.graph.call_module(path, arguments)
        names = list(node.output)
        if node.op_type in _OPTIONAL_OUTPUTS:
            names = names[:1]
        if len(names) == 1 and not is_tuple:
            self.values[names[0]] = called
            return
        for index, name in enumerate(names):
            if name and (name in self.readers or name in self.draft.output_names()):
                self.values[name] = self.graph.call_function(_item, (called, index))

    def finish(self, *, as_tuple: bool) -> tuple[nn.Module, dict[str, str], dict[str, str]]:
        results = tuple(self._value(value.name) for value in self.draft.outputs)
        self.graph.output(results if as_tuple or len(results) > 1 else results[0])
        module = fx.GraphModule(self.root, self.graph, class_name="OnnxModel")
        return module.eval(), self.paths, self.holders

    def _body(self, path: str, graph: GraphProto, name: str) -> control.Body:
        """The module of a subgraph that will be `name` of the module at `path`."""
        draft, captured = control.subdraft(self.draft, graph)
        self.settle(draft)
        module, paths, holders = assemble(draft, self.origins, self.settle, as_tuple=True)
        self.paths |= {key: f"{path}.{name}.{inner}" for key, inner in paths.items()}
        self.holders |= {f"{path}.{name}.{inner}": owner for inner, owner in holders.items()}
        return control.Body(module, captured)

    def _convert(self, node: NodeProto, path: str) -> Converted:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if not node.domain and node.op_type in control.OPERATORS:
                    return control.convert(node, partial(self._body, path))
                return convert_node(node, self.draft)
        except InputError:
            raise
        except Exception as error:
            raise self._refusal(node, error) from error

    def _refusal(self, node: NodeProto, error: Exception) -> InputError:
        origin = self.origins.get(node.name)
        name = f" (node {origin.name!r})" if origin is not None and origin.name else ""
        domain = node.domain or "ai.onnx"
        version = self.draft.domains.get(node.domain, self.draft.file_opset)
        what = f"{self.draft.path}: operator {node.op_type}{name} of {domain} {version}"
        if _QUANTISED.search(node.op_type):
            return InputError(
                f"{what} cannot be audited: rounding to integers has no gradient",
                hint="audit the floating-point model that was quantised, or the one that was "
                "trained for it, exported before it was converted",
            )
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        return InputError(
            f"{what} cannot be converted: {reason}",
            hint="export the network as TorchScript (torch.jit.trace) instead, or without this "
            "operator, for example without its post-processing",
        )

    def _value(self, name: str, reader: NodeProto | None = None) -> fx.Node:
        if name not in self.values:
            if name not in self.draft.constants:
                raise InputError(
                    f"{self.draft.path}: value {name!r} is read but nothing computes it",
                    hint="the file is damaged, or was edited by hand: export it again",
                )
            self.values[name] = self._parameter(name, reader) or self._constant(name)
        return self.values[name]

    def _parameter(self, name: str, reader: NodeProto | None) -> fx.Node | None:
        """A floating initializer of the file; single numbers are settings, not weights."""
        array = self.draft.constants[name]
        if reader is None or name not in self.draft.sources or array.size <= 1:
            return None
        prefix, _, own = self.draft.sources[name].name.rpartition(".")
        holder = nn.Module()
        if not own.isidentifier() or hasattr(holder, own):
            prefix, own = self.draft.sources[name].name, "value"
        index = list(reader.input).index(name)
        holder.register_parameter(own, shared(reader, self.draft, index, array))
        path = f"initializer_{len(self.holders)}"
        self.root.add_module(path, holder)
        self.holders[path] = prefix
        return self.graph.get_attr(f"{path}.{own}")

    def _constant(self, name: str) -> fx.Node:
        try:
            value = tensor(self.draft.constants[name])
        except TypeError as error:
            kind = self.draft.constants[name].dtype
            raise InputError(
                f"{self.draft.path}: constant {name!r} is of type {kind}, which PyTorch lacks",
                hint="export the network in float32",
            ) from error
        path = f"constant_{sum(1 for _ in self.root.named_buffers(recurse=False))}"
        self.root.register_buffer(path, value)
        return self.graph.get_attr(path)


def _item(values: tuple[object, ...], index: int) -> object:
    return values[index]
