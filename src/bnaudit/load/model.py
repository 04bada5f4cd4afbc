"""What every loader hands on: a callable module, its signature, and the BatchNorm layers the file defines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

Dim = int | str | None
"""A static size, a symbolic name, or None where the file says nothing."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of the model as its file declares it.

    Attributes:
        name: the name a `.npz` key must have.
        shape: one entry a dimension; None where even the rank is unknown (TorchScript).
        dtype: numpy's name of the element type ("float32"), or None where unknown.
    """

    name: str
    shape: tuple[Dim, ...] | None = None
    dtype: str | None = None


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
        module: takes the inputs positionally in the order of `inputs`; parameters and buffers are
            registered on it. Loaders hand it over in eval mode, live modules come as they are.
        format: how it was stored.
        inputs: the signature; entries may be partly unknown.
        outputs: names of the outputs, empty where the format has none.
        batchnorms: the BatchNorm layers defined in the file, in the file's order.
        labels: path of a submodule of `module` -> the name to report for it, of BatchNorm layers and
            of others that own a weight. A path that is not a key is its own label.
        producer: who wrote the file ("pytorch 2.13.0"), or None.
        facts: further facts for the report, in a fixed order ("opset": "17").
        notes: what the loader changed or noticed and the user should know, one sentence each.
        static_batch: the batch size the file was exported with, or None where any size runs.
        lifted: True where `module` was rewritten so that other batch sizes than `static_batch` may
            run. To be trusted only after the row check (`bnaudit.data.row_check`): row 0 of a batch
            equals the run of that row alone. At `static_batch` the rewritten module is the original.
        reload: loads the same model afresh (private copy), or None for live modules.
    """

    module: nn.Module
    format: Literal["onnx", "torchscript", "module"]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...] = ()
    batchnorms: tuple[BatchNormDef, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    producer: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    static_batch: int | None = None
    lifted: bool = False
    reload: Callable[[], LoadedModel] | None = None

    def parameter_name(self, path: str) -> str:
        """The author's name of the parameter that `module` has at `path`."""
        owner, _, own = path.rpartition(".")
        label = self.labels.get(owner, owner)
        return f"{label}.{own}" if label else own
