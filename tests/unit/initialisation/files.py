"""Files to compare, written with nothing of bnaudit."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from fixtures.nets import NETS
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FIXTURES = Path(__file__).parents[3] / "fixtures"
_START_SEED = 2  # of fixtures/build.py: the weights that the shipped ones were trained from

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def start_of(name: str) -> nn.Module:
    """The untrained network that fixtures/build.py began with."""
    torch.manual_seed(_START_SEED)
    torch.set_default_dtype(torch.float64)
    try:
        return NETS[name]().float()
    finally:
        torch.set_default_dtype(torch.float32)


def trained_state(name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(FIXTURES / name / "state_dict.pt", weights_only=True)
    return state


def save_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """The format's page, written out; names sorted, as its library does."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        kind = _DTYPES.get(tensor.dtype, "I64")
        raw = bytes(tensor.view(-1).view(torch.uint8).tolist()) if tensor.numel() else b""
        if not tensor.dim():
            raw = bytes(tensor.reshape(1).view(torch.uint8).tolist())
        header[name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def save_state(path: Path, state: object, *, legacy: bool = False) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_script(path: Path, net: nn.Module) -> Path:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net.eval()), buffer)
    path.write_bytes(buffer.getvalue())
    return path
