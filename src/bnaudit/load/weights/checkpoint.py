"""PyTorch checkpoints, zip and legacy, however deep the state_dict lies in them.

A pickle can run code while it is read. `weights_only` reads with an interpreter that knows tensors
and plain containers and refuses everything else; there is no way around it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bnaudit.errors import InputError
from bnaudit.load.archive import require_intact
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import NamedTensor, WeightFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

# Where training scripts put the weights, the plain ones before their moving averages.
_ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "ema_state_dict",
    "model_ema",
    "state_dict_ema",
)
_MAX_DEPTH = 4
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported class) (\S+)")


def read_checkpoint(path: Path) -> WeightFile:
    """The tensors of a checkpoint.

    Raises:
        InputError: it is damaged, holds Python objects beside tensors, or holds no state_dict.
    """
    content = load_checkpoint(path)
    entry, state, others = find_state(path, content)
    tensors = tuple(_named(name, t) for name, t in flatten(state) if _usable(t))
    left_out = sum(1 for _, t in flatten(state) if not _usable(t) and _is_number(t))
    notes = []
    if entry:
        beside = f" (beside it: {', '.join(others)})" if others else ""
        notes.append(f"{path}: read from its entry {entry!r}{beside}")
    if left_out:
        notes.append(f"{path}: {left_out} quantised, sparse or complex tensors left out")
    return WeightFile(path, FileKind.CHECKPOINT, tensors, notes=tuple(notes))


def load_checkpoint(path: Path) -> Any:
    """What a file of `torch.save` holds, as far as it is tensors and plain containers.

    Raises:
        InputError: it is damaged, or holds Python objects.
    """
    require_intact(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in a dozen ways inside torch
        text = str(error)
        refused = _REFUSED.search(text)
        if refused or "Weights only load failed" in text:
            what = f" ({refused[1]})" if refused else ""
            raise InputError(
                f"{path}: holds Python objects{what}, not tensors alone; reading them could run code",
                hint="save the weights alone: torch.save(model.state_dict(), path)",
            ) from error
        first = next(iter(text.splitlines()), type(error).__name__)
        raise InputError(
            f"{path}: cannot be read as a PyTorch checkpoint ({first[:120]})",
            hint="damaged or cut off? copy it again and compare the size",
        ) from error


def find_state(
    path: Path, content: Any, depth: int = 0
) -> tuple[str, Mapping[str, Any], list[str]]:
    """(dotted path of the entry, the state_dict, other entries that hold one too).

    Raises:
        InputError: there are no named tensors.
    """
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise InputError(
            f"{path}: holds a {kind}, not named tensors",
            hint="save the weights by name: torch.save(model.state_dict(), path)",
        )
    found = [key for key in _ENTRIES if _holds_tensors(content.get(key), depth)]
    if not found:
        return "", content, []
    inner, state, _ = find_state(path, content[found[0]], depth + 1)
    return f"{found[0]}.{inner}" if inner else found[0], state, found[1:]


def _holds_tensors(value: Any, depth: int) -> bool:
    """A mapping from names to tensors, or to such mappings; `net` may also name a submodule."""
    if not isinstance(value, Mapping) or depth >= _MAX_DEPTH:
        return False
    return any(isinstance(v, Tensor) or _holds_tensors(v, depth + 1) for v in value.values())


def flatten(
    state: Mapping[Any, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a state_dict with its dotted name."""
    for key, value in state.items():
        if not isinstance(key, str):
            continue  # an optimizer numbers its parameters
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from flatten(value, f"{prefix}{key}.", depth + 1)
        elif isinstance(value, Tensor):
            yield prefix + key, value


def _usable(tensor: Tensor) -> bool:
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    return plain and tensor.is_floating_point()


def _is_number(tensor: Tensor) -> bool:
    return tensor.is_quantized or tensor.is_complex() or tensor.layout != torch.strided


def _named(name: str, tensor: Tensor) -> NamedTensor:
    def read() -> NDArray[np.float64]:
        values: NDArray[np.float64] = tensor.detach().to("cpu", torch.float64).numpy()
        return values

    return NamedTensor(name, tuple(tensor.shape), read)
