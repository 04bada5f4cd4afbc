"""Which layer a BatchNorm call belongs to: tensors lead to modules, modules to the author's names."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from bnaudit.tap.exported import anonymous_calls, is_decomposed, model_kind
from bnaudit.tap.scripted import (
    anonymous_batchnorms,
    is_batchnorm,
    is_batchnorm_kind,
    module_kind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from torch import Tensor

_Address = tuple[str, int, int]


def _address(tensor: Tensor) -> _Address:
    return (str(tensor.device), tensor.data_ptr(), tensor.numel())


WEIGHT, INSTANCE = "weight", "instance"
"""What calls of BatchNorm's kernel are that are no layers: weight standardisation, instance norm."""


def _may_be_layer(module: nn.Module) -> bool:
    """Whether a module of Python code calls BatchNorm, or keeps what it is called with."""
    plain = not isinstance(module, (torch.jit.ScriptModule, fx.GraphModule))
    return plain and (is_batchnorm(module) or bool(module._buffers))


class Namer:
    """Finds the name of the layer behind the tensors of a call.

    A parameter or buffer may be registered under several modules (a BatchNorm used under two
    names, a gamma shared by two layers), so the module prefixes of all tensors of a call are
    intersected; of several that remain the first registered is the name.

    Calls without any tensor (affine=False and no running statistics) are found by the module whose
    `forward` is on the Python stack, and inside TorchScript and exported programs, where there is
    none, by the order in which the graph calls such layers.

    `layers` are the modules whose calls are the model's in every thread.

    `decomposed` tells whether the model has graphs that call BatchNorm by another name; `apart` which calls
    are no layers, and what they are (`WEIGHT`, `INSTANCE`), None while nobody has looked.
    """

    def __init__(self, module: nn.Module, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._root = model_kind(module) or module_kind(module)
        self._owners: dict[_Address, list[str]] = {}
        tensors = [
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False),
        ]
        alone = is_batchnorm(module) or is_batchnorm_kind(self._root)
        for path, tensor in tensors:
            if tensor.numel():
                prefix, _, own = path.rpartition(".")
                # Of the model itself: it is one BatchNorm, or calls it functionally.
                owner = prefix or (self._root if alone else f"{self._root}({own})")
                self._owners.setdefault(_address(tensor), []).append(owner)
        self._paths = {id(sub): path for path, sub in module.named_modules()}
        self.layers = [sub for sub in module.modules() if _may_be_layer(sub)]
        self._anonymous: Sequence[str | None] = anonymous_batchnorms(module)
        self._anonymous = self._anonymous or anonymous_calls(module)
        self.decomposed = is_decomposed(module)
        self.apart: Mapping[tuple[str, int], str] | None = None
        self._uses: Counter[str] = Counter()
        self._unnamed = 0

    def of_copy(self, module: nn.Module) -> Namer:
        """The same for a copy of the model."""
        namer = Namer(module, self._labels)
        namer.apart = self.apart
        return namer

    def start(self) -> None:
        """A new forward pass begins: count occurrences afresh."""
        self._uses.clear()
        self._unnamed = 0

    def at_instance_norm(self) -> bool:
        """Whether the next call that is given no tensor of the model is an InstanceNorm, as its graph says.

        Then it is passed over. A graph that does not list it is taken to mean one.
        """
        if self._unnamed >= len(self._anonymous):
            return True
        if self._anonymous[self._unnamed] is None:
            self._unnamed += 1
            return True
        return False

    def owns(self, *tensors: Tensor | None) -> bool:
        """Whether one of these tensors is a parameter or buffer of the model."""
        return any(_address(t) in self._owners for t in tensors if t is not None)

    def name(self, *tensors: Tensor | None) -> tuple[str, int]:
        """Name and occurrence of the call that was given these tensors."""
        path = self._by_tensors([t for t in tensors if t is not None])
        if path is None:
            path = self._by_stack()
        if path is None:
            while self._anonymous[self._unnamed : self._unnamed + 1] == [None]:
                self._unnamed += 1  # an InstanceNorm
            self._unnamed += 1
            known = self._anonymous[self._unnamed - 1 : self._unnamed]
            path = (known[0] if known else None) or f"batch_norm_{self._unnamed}"
        name = self._labels.get(path, path)
        self._uses[name] += 1
        return name, self._uses[name]

    def _by_tensors(self, tensors: list[Tensor]) -> str | None:
        found = [self._owners[a] for a in map(_address, tensors) if a in self._owners]
        if not found:
            return None
        common = [p for p in found[0] if all(p in other for other in found)]
        path = (common or found[0])[0]
        # Functional calls on tensors of the model itself have the module on the stack, if any.
        return (self._by_stack() or path) if path.startswith(f"{self._root}(") else path

    def _by_stack(self) -> str | None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self") if frame.f_code.co_name == "forward" else None
            if isinstance(owner, nn.Module) and not isinstance(owner, torch.jit.ScriptModule):
                path: str | None = self._paths.get(id(owner))
                if path:
                    return path
            frame = frame.f_back
        return None
