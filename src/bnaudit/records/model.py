"""The model as its file declares it: signature, size, who wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bnaudit.records.values import Count


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input of the model.

    Attributes:
        name: of the input.
        shape: an entry a dimension: a size, a symbolic name, or None where the file says nothing; None
            where even the rank is unknown.
        dtype: element type as numpy names it, None where unknown.
    """

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The audited model.

    Attributes:
        path: as the user typed it, or the class name of a live module.
        format: how it is stored: onnx, torchscript, exported (torch.export) or module.
        producer: who wrote the file, None where it does not tell.
        facts: further facts from the file, such as the opset; the keys depend on the format.
        inputs: the signature.
        outputs: names of the outputs; empty where the format has none.
        parameters: number of scalar parameters.
        defined: names of the BatchNorm layers that the model defines, in its order.
        not_executed: those of `defined` that no sample batch went through.
        instance_norms: how many InstanceNorm calls were seen (told apart, not audited).
        notes: what the loader changed or noticed, one sentence each.
    """

    path: str
    format: str
    producer: str | None
    facts: Mapping[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]
    parameters: Count
    defined: tuple[str, ...]
    not_executed: tuple[str, ...] = ()
    instance_norms: Count = 0
    notes: tuple[str, ...] = ()
