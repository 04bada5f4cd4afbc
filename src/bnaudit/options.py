"""The settings of an audit, as both the command line and the Python API fill them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from bnaudit.config.options import BY_PARAMETER
from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from bnaudit.judge.policy import Policy
    from bnaudit.records.finding import Severity
    from bnaudit.records.snapshot import Snapshot

P = ParamSpec("P")
T = TypeVar("T")

_DEFAULTS: dict[str, Any] = {name: option.default for name, option in BY_PARAMETER.items()}


def _default_policy() -> Policy:
    from bnaudit.judge.policy import DEFAULT_POLICY  # imports every rule: not for --help

    return DEFAULT_POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """How to audit a model.

    Attributes:
        trust: whether code that a torch.export file brings along may run while it is loaded.
        weights: a file with the weights of a factory's network.
        entry: the entry of `weights` to load, where it holds several networks; None for the first that fits
            the network best.
        kwargs: what a factory (`package.module:factory`) is called with.
        strict: whether weights have to name every parameter of the network, and nothing else.
        inputs: values of the model's arguments that are no data, by name.
        data: files (paths), tensors or arrays (one, a tuple in input order, or a mapping by input
            name), or an iterable of batches such as a DataLoader, whose items are (inputs..., labels),
            inputs, or mappings; "matched" for batches that are optimised to have the model's running
            statistics; None takes the batch that the file brings along, or draws a synthetic one.
        map: input name -> key of the data (place, in a tuple of arrays); what it does not name is left out.
        images: how a folder of images is read: size, crop, mean, std, channels, layout, range, resample.
        labels: a key in the data (or in the mappings of an iterable), a path, or an array; None uses
            the key "labels" if there is one.
        loss: a name of `bnaudit.losses.NAMES`, or a callable (output, labels) or (output, batch) -> scalar
            tensor; batch is what the iterable gave, else inputs and labels by name.
        loss_options: options of a named loss (`bnaudit.losses.SETTINGS`), or a function's keyword arguments.
        loss_output: name or number of the output that the loss is taken of.
        batches: how many sample batches to run; None, or "auto", runs as many as the medians need.
        batch_size: rows in each.
        input_shapes: input name -> full shape for the synthetic batch; the empty name means the
            only input.
        match_steps: with matched data, forward and backward passes for each batch at most; None for 60.
        match_cache: with matched data, whether the batches are kept in the user's cache folder.
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

    trust: bool = _DEFAULTS["trust"]
    weights: str | Path | None = _DEFAULTS["weights"]
    entry: str | None = _DEFAULTS["entry"]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = _DEFAULTS["strict"]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    map: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    labels: Any = _DEFAULTS["labels"]
    loss: str | Callable[..., Any] = _DEFAULTS["loss"]
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    loss_output: str | None = _DEFAULTS["loss_output"]
    batches: int | None = _DEFAULTS["batches"]
    batch_size: int | None = _DEFAULTS["batch_size"]
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    match_steps: int | None = _DEFAULTS["match_steps"]
    match_cache: bool = _DEFAULTS["match_cache"]
    device: str = _DEFAULTS["device"]
    dtype: str | None = _DEFAULTS["dtype"]
    seed: int = _DEFAULTS["seed"]
    mode: str = _DEFAULTS["mode"]
    verify: bool = _DEFAULTS["verify"]
    verify_gradients: int = _DEFAULTS["verify_gradients"]
    verify_second_order: int = _DEFAULTS["verify_second_order"]
    memory: int | None = _DEFAULTS["memory"]
    metrics: tuple[str, ...] = _DEFAULTS["metrics"]
    layers: str | None = _DEFAULTS["layers"]
    twins: str | None = _DEFAULTS["twins"]
    channels: bool = _DEFAULTS["channels"]
    fail_on: Severity | None = _DEFAULTS["fail_on"]
    allow_no_bn: bool = _DEFAULTS["allow_no_bn"]
    policy: Policy = field(default_factory=_default_policy)
    baseline: str | Path | Snapshot | None = _DEFAULTS["baseline"]

    def __post_init__(self) -> None:
        for option in FIELDS:
            parameter = str(option.parameter)
            object.__setattr__(self, parameter, option.accept(getattr(self, parameter)))
        implied = {
            "twins": self.twins is not None,
            "upstream": "twins" in self.metrics or self.twins is not None,
            "second_order": "second_order_bound" in self.metrics,
        }
        added = (name for name, wanted in implied.items() if wanted and name not in self.metrics)
        object.__setattr__(self, "metrics", (*self.metrics, *added))


FIELDS = tuple(BY_PARAMETER[f.name] for f in fields(AuditOptions) if f.name in BY_PARAMETER)
"""The options that are fields of `AuditOptions`."""


def settings_of(options: Mapping[str, Any], function: str) -> AuditOptions:
    """The settings that keyword arguments name.

    Args:
        options: by name.
        function: that was called, for errors.

    Raises:
        UsageError: there is no such option, or a value has no meaning.
    """
    _known(options, [f.name for f in fields(AuditOptions)], function)
    return AuditOptions(**options)


def named(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which says what was meant where a keyword is misspelt."""
    keywords = list(signature(function).parameters)

    @wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> T:
        _known(options, keywords, function.__name__)
        return function(*args, **options)

    return called


def _known(options: Iterable[str], known: Sequence[str], function: str) -> None:
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise UsageError(
                f"{function} has no option {name!r}"
                + (f", did you mean {close[0]!r}?" if close else "")
            )
