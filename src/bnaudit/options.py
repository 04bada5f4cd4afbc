"""The settings of an audit, as both the command line and the Python API fill them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bnaudit.errors import UsageError
from bnaudit.judge.policy import DEFAULT_POLICY, Policy
from bnaudit.metrics import DEFAULT, METRICS
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.snapshot import Snapshot

MODES = ("batch", "running")
DTYPES = ("float32", "float64", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """How to audit a model.

    Attributes:
        trust: whether code that a torch.export file brings along may run while it is loaded.
        weights: a file with the weights of a factory's network.
        kwargs: what a factory (`package.module:factory`) is called with.
        strict: whether weights have to name every parameter of the network, and nothing else.
        inputs: values of the model's arguments that are no data, by name.
        data: files (paths), tensors or arrays (one, a tuple in input order, or a mapping by input
            name), or an iterable of batches such as a DataLoader, whose items are (inputs..., labels),
            inputs, or mappings; None takes the batch that the file
            brings along, or draws a synthetic one.
        labels: a key in the data (or in the mappings of an iterable), a path, or an array; None uses
            the key "labels" if there is one.
        loss: a name of `bnaudit.data.loss.NAMES`, or a callable (output, labels) -> scalar tensor.
        batches: how many sample batches to run.
        batch_size: rows in each.
        input_shapes: input name -> full shape for the synthetic batch; the empty name means the
            only input.
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: precision of the run; None keeps the model's own (float16 runs as float32).
        seed: of synthetic data, label-free targets and any randomness inside the model.
        mode: "batch" normalises with batch statistics as in training, "running" as in inference.
        verify: whether to compare a converted model with a runtime that reads its file directly.
        verify_gradients: how many layers, spread over the depth, to check by finite differences;
            -1 means all.
        verify_second_order: how many layers, spread over the depth, to check the second-order sweep
            against double backward at, in float64; -1 means all.
        memory: bytes that the second-order sweep's tangents may take; None for a share of what is free.
            A string such as "500MB" or "2GB" is taken too.
        metrics: names of `bnaudit.metrics.METRICS`; first_order is always measured.
        layers: shell-style pattern of layer names to report; others are run, but not measured.
        twins: label of a layer for which twins are measured besides those of all layers.
        channels: keep per-channel arrays.
        fail_on: severity from which findings fail the audit; None never.
        allow_no_bn: a model without BatchNorm passes.
        policy: which rules judge, how strictly, and where they are silent.
        baseline: path of an earlier report, or one that was read; its findings do not fail this audit.
    """

    trust: bool = False
    weights: str | Path | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = True
    inputs: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    labels: Any = None
    loss: str | Callable[..., Any] = "auto"
    batches: int | None = None
    batch_size: int | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    mode: str = "batch"
    verify: bool = False
    verify_gradients: int = 0
    verify_second_order: int = 0
    memory: int | None = None
    metrics: tuple[str, ...] = DEFAULT
    layers: str | None = None
    twins: str | None = None
    channels: bool = False
    fail_on: Severity | None = Severity.ERROR
    allow_no_bn: bool = False
    policy: Policy = DEFAULT_POLICY
    baseline: str | Path | Snapshot | None = None

    def __post_init__(self) -> None:
        for name, coerce in _COERCE.items():
            object.__setattr__(self, name, coerce(getattr(self, name)))
        object.__setattr__(self, "metrics", _with_implied(self.metrics, self.twins))
        _one_of("mode", self.mode, MODES)
        if self.dtype is not None:
            _one_of("dtype", self.dtype, DTYPES)
        for name in self.metrics:
            _one_of("metric", name, tuple(METRICS))
        for name in ("batches", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, but has to be at least 1")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed is {self.seed}, but has to be between 0 and 2**32 - 1")
        for name in ("verify_gradients", "verify_second_order"):
            if getattr(self, name) < -1:
                raise UsageError(f"{name} is a number of layers, or -1 for all")


def _severity(value: Any) -> Severity | None:
    """A severity by its name, as the command line has it; "never" is None."""
    if not isinstance(value, str):
        return value if value is None else Severity(value)
    if value == "never":
        return None
    _one_of("fail_on", value, tuple(s.label for s in Severity))
    return Severity[value.upper()]


def _metric_names(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    names = tuple(str(name).strip() for name in names)
    return tuple(METRICS) if names == ("all",) else names


def _with_implied(metrics: tuple[str, ...], twins: str | None) -> tuple[str, ...]:
    implied = {"twins": twins is not None, "second_order": "second_order_bound" in metrics}
    return (*metrics, *(name for name, wanted in implied.items() if wanted and name not in metrics))


def _layer_count(name: str, value: Any) -> int:
    if value == "all":
        return -1
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} is {value!r}, but has to be a number of layers or 'all'")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError("kwargs and inputs have to be mappings from names to values")
    return value


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


def _bytes(value: Any) -> int | None:
    """500MB, 2GB or 1.5GiB as bytes."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\s*", str(value), re.IGNORECASE)
    unit = match[2].upper() if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or unit not in _UNITS or float(match[1]) * _UNITS[unit] < 1:
        raise UsageError(f"memory is {value!r}, but has to be a size", hint="such as 500MB or 2GB")
    return int(float(match[1]) * _UNITS[unit])


def _dtype_name(value: Any) -> str | None:
    return None if value is None else str(value).removeprefix("torch.")


# What people write in Python is taken where there is only one thing that it can mean.
_COERCE: dict[str, Callable[[Any], Any]] = {
    "fail_on": _severity,
    "metrics": _metric_names,
    "verify_gradients": partial(_layer_count, "verify_gradients"),
    "verify_second_order": partial(_layer_count, "verify_second_order"),
    "memory": _bytes,
    "dtype": _dtype_name,
    "device": str,
    "kwargs": _mapping,
    "inputs": _mapping,
}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"unknown {name} {value!r}", hint=f"one of: {', '.join(allowed)}")
