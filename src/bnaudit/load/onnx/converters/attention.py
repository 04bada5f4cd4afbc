"""The Attention operator of opset 23, as dynamo exports scaled_dot_product_attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

from bnaudit.load.onnx.converters.base import Converted, apply, input_name, options

if TYPE_CHECKING:
    import torch
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft


def attention(node: NodeProto, _: Draft) -> Converted:
    """Without a cache: queries, keys, values and a mask, as (batch, heads, length, size) or 3-D."""
    values = options(node)
    cached = [index for index in (4, 5, 6) if input_name(node, index)]
    if cached or values.get("softcap") or len([name for name in node.output if name]) > 1:
        raise NotImplementedError("caches, softcap and further outputs are not supported")
    causal, scale = bool(values.get("is_causal", 0)), values.get("scale")

    def run(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        flat = q.dim() == 3
        if flat:
            q = _heads(q, values["q_num_heads"])
            k, v = (_heads(x, values["kv_num_heads"]) for x in (k, v))
        repeats = q.shape[1] // k.shape[1]
        if repeats > 1:
            k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
        y = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
        return y.transpose(1, 2).flatten(2) if flat else y

    return apply(node, run)


def _heads(x: torch.Tensor, count: Any) -> torch.Tensor:
    split: torch.Tensor = x.unflatten(2, (int(count), -1))
    return split.transpose(1, 2)
