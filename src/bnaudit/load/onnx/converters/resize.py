"""Resize, with every coordinate convention ONNX has.

Each axis is resampled by itself: output element i lies at a real coordinate u(i) of the input, and
is a weighted sum of the input's elements next to u(i), one weight a tap. torch's own interpolation
knows only some of the conventions; it serves where it means the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from bnaudit.load.onnx.converters.base import Converted, apply, options

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_REFUSED = {
    "keep_aspect_ratio_policy": ("stretch",),
    "coordinate_transformation_mode": (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ),
    "mode": ("nearest", "linear", "cubic"),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
}
"""Attribute -> values that are supported."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The attributes that decide where an output element lies and how it is mixed."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool


def resize(node: NodeProto, _: Draft) -> Converted:
    """Resize by scales or to sizes, along all axes or some."""
    values = options(node)
    for name, supported in _REFUSED.items():
        if name in values and values[name] not in supported:
            raise NotImplementedError(f"{name}={values[name]} is not supported")
    rule = Rule(
        values.get("mode", "nearest"),
        values.get("coordinate_transformation_mode", "half_pixel"),
        values.get("nearest_mode", "round_prefer_floor"),
        float(values.get("cubic_coeff_a", -0.75)),
        bool(values.get("exclude_outside", 0)),
        bool(values.get("antialias", 0)),
    )
    chosen = values.get("axes")

    def run(
        x: torch.Tensor,
        _roi: torch.Tensor | None = None,
        scales: torch.Tensor | None = None,
        sizes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        axes = range(x.dim()) if chosen is None else [axis % x.dim() for axis in chosen]
        targets = _targets(x, list(axes), scales, sizes)
        return _fast(x, rule, targets) if _is_fast(x, rule, targets) else _exact(x, rule, targets)

    return apply(node, run)


def _targets(
    x: torch.Tensor, axes: list[int], scales: Any, sizes: Any
) -> dict[int, tuple[int, float]]:
    """Axis -> (output size, scale), for the axes that change.

    The first axis never does: a batch size among `sizes` is the exported one, and means nothing.
    """
    if scales is not None and scales.numel():
        pairs = [(int(x.shape[a] * s), s) for a, s in zip(axes, scales.tolist(), strict=True)]
    else:
        pairs = [(s, s / x.shape[a]) for a, s in zip(axes, sizes.tolist(), strict=True)]
    return {
        axis: (size, scale)
        for axis, (size, scale) in zip(axes, pairs, strict=True)
        if axis > 0 and (size != x.shape[axis] or scale != 1)
    }


def _is_fast(x: torch.Tensor, rule: Rule, targets: dict[int, tuple[int, float]]) -> bool:
    """Where torch's own interpolation means the same: the common upsampling of image networks."""
    if not targets or min(targets) < 2 or x.dim() not in {3, 4, 5} or rule.antialias:
        return False
    if rule.mode == "nearest":
        whole = all(scale == int(scale) for _, scale in targets.values())
        floor = rule.coordinates == "asymmetric" and rule.nearest == "floor"
        return floor and whole
    exact_sizes = all(size == x.shape[axis] * s for axis, (size, s) in targets.items())
    return rule.mode == "linear" and rule.coordinates == "half_pixel" and exact_sizes


def _fast(x: torch.Tensor, rule: Rule, targets: dict[int, tuple[int, float]]) -> torch.Tensor:
    size = [targets.get(axis, (x.shape[axis], 1.0))[0] for axis in range(2, x.dim())]
    if rule.mode == "nearest":
        return functional.interpolate(x, size=size, mode="nearest")
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.dim()]
    return functional.interpolate(x, size=size, mode=mode, align_corners=False)


def _exact(x: torch.Tensor, rule: Rule, targets: dict[int, tuple[int, float]]) -> torch.Tensor:
    for axis, (size, scale) in targets.items():
        x = _resample(x, axis, rule, _positions(rule, x.shape[axis], size, scale), scale)
    return x


def _positions(rule: Rule, before: int, after: int, scale: float) -> torch.Tensor:
    """Gives u(i): where output element i lies between the input's elements."""
    # in float32, as runtimes do: ties between two input elements fall the same way
    i = torch.arange(after, dtype=torch.float32)
    if rule.coordinates == "asymmetric":
        return i / scale
    if rule.coordinates == "align_corners":
        return i * ((before - 1) / (after - 1)) if after > 1 else torch.zeros_like(i)
    if rule.coordinates == "pytorch_half_pixel" and after == 1:
        return torch.zeros_like(i)
    u = (i + 0.5) / scale - 0.5
    if rule.coordinates == "half_pixel_symmetric":
        # an output size that was rounded down is centred on the input
        centre = before / 2
        u = u + centre * (1 - after / (scale * before))
    return u


def _resample(
    x: torch.Tensor, axis: int, rule: Rule, u: torch.Tensor, scale: float
) -> torch.Tensor:
    last = x.shape[axis] - 1
    if rule.mode == "nearest":
        index = _round(u, rule.nearest).clamp(0, last).long()
        return x.index_select(axis, index.to(x.device))
    base = u.floor()
    smooth = rule.antialias and scale < 1
    if smooth:
        taps = _stretched_taps(u - base, rule, scale)
    elif rule.mode == "cubic":
        taps = _cubic_taps(u - base, rule.cubic)
    else:
        taps = _linear_taps(u - base)
    indices = torch.stack([base + offset for offset, _ in taps]).long()
    weights = torch.stack([weight for _, weight in taps])
    if rule.exclude_outside:
        weights = weights * ((indices >= 0) & (indices <= last))
    if rule.exclude_outside or smooth:
        weights = weights / weights.sum(0)
    shape = [1] * x.dim()
    shape[axis] = -1
    parts = [
        x.index_select(axis, index.clamp(0, last).to(x.device))
        * weight.to(x.dtype).to(x.device).reshape(shape)
        for index, weight in zip(indices, weights, strict=True)
    ]
    return torch.stack(parts).sum(0)


def _round(u: torch.Tensor, how: str) -> torch.Tensor:
    if how == "floor":
        return u.floor()
    if how == "ceil":
        return u.ceil()
    return (u - 0.5).ceil() if how == "round_prefer_floor" else (u + 0.5).floor()


def _linear_taps(t: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    return [(0, 1 - t), (1, t)]


def _cubic_taps(t: torch.Tensor, a: float) -> list[tuple[int, torch.Tensor]]:
    return [(-1, _far(t + 1, a)), (0, _near(t, a)), (1, _near(1 - t, a)), (2, _far(2 - t, a))]


def _stretched_taps(t: torch.Tensor, rule: Rule, scale: float) -> list[tuple[int, torch.Tensor]]:
    """Shrinking with antialiasing: the kernel covers 1/scale times as many elements."""
    reach = math.ceil((2 if rule.mode == "cubic" else 1) / scale)
    taps = []
    for offset in range(-reach, reach + 2):
        d = (offset - t).abs() * scale
        if rule.mode == "cubic":
            outer = torch.where(d < 2, _far(d, rule.cubic), torch.zeros_like(d))
            weight = torch.where(d <= 1, _near(d, rule.cubic), outer)
        else:
            weight = (1 - d).clamp(min=0)
        taps.append((offset, weight))
    return taps


def _near(d: torch.Tensor, a: float) -> torch.Tensor:
    """Keys' kernel at a distance d <= 1: (a+2)d^3 - (a+3)d^2 + 1."""
    return ((a + 2) * d - (a + 3)) * d * d + 1


def _far(d: torch.Tensor, a: float) -> torch.Tensor:
    """Keys' kernel at a distance 1 < d <= 2: ad^3 - 5ad^2 + 8ad - 4a."""
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
