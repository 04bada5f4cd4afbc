"""What every loader hands on: a callable module, its signature, and the BatchNorm layers the file defines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn

Dim = int | str | None
"""A static size, a symbolic name, or None where the file says nothing."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of the model as its file declares it.

    Attributes:
        name: the name a `.npz` key must have.
        shape: one entry a dimension; None where even the rank is unknown (TorchScript).
        dtype: numpy's name of the element type ("float32"), or None where unknown.
        required: False for an argument that may be left out as long as data is given by name for
            others.
    """

    name: str
    shape: tuple[Dim, ...] | None = None
    dtype: str | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument that `--input` may set.

    Attributes:
        name: as the model calls it.
        type: what it takes, as the model's own language writes it ("int", "Optional[float]").
        required: whether the model cannot be called without it.
        convert: a value into what the model takes; raises ValueError where it is none.
        text: whether it takes texts, so that what is typed for it is not read as YAML.
    """

    name: str
    type: str
    required: bool
    convert: Callable[[Any], Any]
    text: bool = False


def in_order(given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """How a model without a signature of its own is called: positionally, in the order of its inputs."""
    return list(given.values()), {}


@dataclass(frozen=True, slots=True)
class BatchNormDef:
    """A BatchNorm layer that the model defines, executed or not.

    Attributes:
        name: the layer's name as its author knows it ("layer1.0.bn1").
        channels: the number of channels, or None where the file does not say.
        origin: where it stands in the file (an ONNX node name, a module path and class).
    """

    name: str
    channels: int | None
    origin: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that can be run, with what its file says of itself.

    Attributes:
        module: is called with what `arrange` makes of the inputs; parameters and buffers are
            registered on it. Loaders hand it over in eval mode, live modules come as they are.
        format: how it was stored.
        inputs: the tensors that data has to give, in order; entries may be partly unknown.
        further: tensors that data may give besides, by name.
        open_ended: whether data may give tensors of any other name as well (`**kwargs`).
        groups: arguments that take several tensors, and whether the model cannot be called without:
            data gives those of `batch` as `batch.image`, `batch.mask`, those of a list as `xs.0`.
        arguments: what `--input` may set, by name; the inputs themselves need not be listed.
        values: what it has set.
        arrange: inputs and values by name -> positional and keyword arguments of `module`.
        example: a batch that the file brings along, by input name.
        outputs: names of the outputs, empty where the format has none.
        batchnorms: the BatchNorm layers defined in the file, in the file's order.
        labels: path of a submodule of `module` -> the name to report for it, of BatchNorm layers and
            of others that own a weight. A path that is not a key is its own label.
        producer: who wrote the file ("pytorch 2.13.0"), or None.
        facts: further facts for the report, in a fixed order ("opset": "17").
        notes: what the loader changed or noticed and the user should know, one sentence each.
        static_batch: the batch size the file was exported with, or None where any size runs.
        lifted: True where `module` was rewritten so that other batch sizes than `static_batch` may
            run. To be trusted only after the proof of `bnaudit.data.row_check`.
        unlifted: loads the model as the file has it, for `static_batch` alone; None where the rewrite
            had nothing to change.
        path: the file, None for live models.
        dtype: precision of the weights where they are constants of the file's code, else None.
        adapt: fits the constants that the file's code makes tensors from to a device and, unless it
            is None, a dtype; called once, before `module` first runs.
        reload: loads the same model afresh (private copy), or None for live modules.
    """

    module: nn.Module
    format: Literal["onnx", "torchscript", "exported", "module"]
    inputs: tuple[InputSpec, ...]
    further: tuple[InputSpec, ...] = ()
    open_ended: bool = False
    groups: Mapping[str, bool] = field(default_factory=dict)
    arguments: tuple[Argument, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    arrange: Callable[[Mapping[str, Any]], tuple[list[Any], dict[str, Any]]] = in_order
    example: Mapping[str, Tensor] | None = None
    outputs: tuple[str, ...] = ()
    batchnorms: tuple[BatchNormDef, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    producer: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    static_batch: int | None = None
    lifted: bool = False
    unlifted: Callable[[], LoadedModel] | None = None
    path: Path | None = None
    dtype: torch.dtype | None = None
    adapt: Callable[[nn.Module, torch.device, torch.dtype | None], None] | None = None
    reload: Callable[[], LoadedModel] | None = None

    def accepts(self, name: str) -> bool:
        """Whether data may give a tensor of this name."""
        if self.open_ended or any(s.name == name for s in (*self.inputs, *self.further)):
            return True
        group, _, member = name.partition(".")
        return bool(member) and group in self.groups and group not in self.values

    def parameter_name(self, path: str) -> str:
        """The author's name of the parameter that `module` has at `path`."""
        owner, _, own = path.rpartition(".")
        label = self.labels.get(owner, owner)
        return f"{label}.{own}" if label else own
