"""One cell of the table: a network written one way, loaded by bnaudit, compared and audited."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

import bnaudit
from bench.vision.nets import executed
from bnaudit.errors import BnauditError
from bnaudit.load import load
from bnaudit.records.layer import FirstOrder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

OPSETS = (11, 13, 17, 20, 23)
TOLERANCE = 1e-5
EXACT = 1e-6
"""Constants that an exporter computed were rounded to float32."""

BATCH = 4
"""Rows of the audit; every file is written for one."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a network is written: by an exporter at an opset, scripted or traced."""

    writer: str
    opset: int | None = None

    def __str__(self) -> str:
        return self.writer if self.opset is None else f"{self.writer}-{self.opset}"


WAYS = (
    *(Way("torchscript", opset) for opset in OPSETS),
    *(Way("dynamo", opset) for opset in OPSETS),
    Way("scripted"),
    Way("traced"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one network written one way.

    Attributes:
        refused: why the exporter wrote no file, else "".
        failed: why bnaudit did not load or audit it, else "".
        opset: what the file says.
        absolute: the largest |bnaudit - reference| over all outputs.
        relative: the same, each output divided by its largest |reference|.
        exact: likewise, of the loaded model run in float64 against the original network in float64:
            what is left when rounding is not in the way. NaN where there is no original.
        executed: BatchNorm calls of the original network.
        layers: BatchNorm calls that the audit saw.
        measured: those with a gradient ratio, that is, with their residual within tolerance.
        residual: the largest residual in units of its tolerance.
        rows: rows of the audited batch.
    """

    refused: str = ""
    failed: str = ""
    opset: int | None = None
    absolute: float = float("nan")
    relative: float = float("nan")
    exact: float = float("nan")
    executed: int = 0
    layers: int = 0
    measured: int = 0
    residual: float = float("nan")
    rows: int = 0

    @property
    def passed(self) -> bool:
        """Loaded, right, and every layer measured."""
        whole = self.executed == self.layers == self.measured > 0
        # outputs far below 1 are probabilities, whose rounding is that of the logits
        right = min(self.absolute, self.relative) <= TOLERANCE and not self.exact > EXACT
        return not self.refused and not self.failed and whole and right


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Exporters print, warn and log about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write(way: Way, net: nn.Module, x: Tensor, path: Path) -> None:
    """Writes the network as its users would, with BatchNorm kept."""
    with quietly(), torch.no_grad():
        if way.writer == "scripted":
            torch.jit.save(torch.jit.script(net), path)
        elif way.writer == "traced":
            # strict=False: segmentation networks return a dict
            torch.jit.save(torch.jit.trace(net, (x,), strict=False, check_trace=False), path)
        else:
            _export(way, net, x, path)


def _export(way: Way, net: nn.Module, x: Tensor, path: Path) -> None:
    kept: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE}
    if way.writer == "dynamo":
        kept = {"optimize": False, "verbose": False}
    dynamo = way.writer == "dynamo"
    torch.onnx.export(net, (x,), path, dynamo=dynamo, opset_version=way.opset, **kept)


@dataclass(frozen=True, slots=True)
class Original:
    """A network before it is written.

    Attributes:
        net: in eval mode.
        x: an input.
        outputs: what it computes.
        exact: what it computes in float64.
        executed: BatchNorm calls of a forward pass.
    """

    net: nn.Module
    x: Tensor
    outputs: list[Tensor]
    exact: list[Tensor]
    executed: int


def original(net: nn.Module, x: Tensor) -> Original:
    """Runs the network once in either precision."""
    with torch.no_grad():
        outputs, exact = flat(net(x)), flat(copy.deepcopy(net).double()(x.double()))
    return Original(net, x, outputs, exact, executed(net, x))


def measure(way: Way, net: Original, path: Path) -> Cell:
    """One cell; `path` is written."""
    try:
        write(way, net.net, net.x, path)
    except Exception as error:  # whatever an exporter raises is its refusal
        return Cell(refused=_line(error), executed=net.executed)
    try:
        wanted = onnxruntime_outputs(path, [net.x]) if way.opset else net.outputs
        return checked(path, [net.x], wanted, net.executed, net.exact)
    except BnauditError as error:
        return Cell(failed=error.message.replace(f"{path}: ", ""), executed=net.executed)
    except Exception as error:  # a bug: the table must show it and go on
        return Cell(failed=_line(error), executed=net.executed)


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def checked(
    path: Path,
    inputs: list[Tensor],
    wanted: list[Tensor],
    executed: int,
    exact: list[Tensor] | None = None,
) -> Cell:
    """Loads and audits a file, and compares its outputs.

    Args:
        path: the file.
        inputs: in the file's order.
        wanted: what another runtime computes from them.
        executed: BatchNorm calls that the audit should see.
        exact: what the original network computes in float64.
    """
    loaded = load(path)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        absolute, relative = _differences(flat(loaded.module(*inputs)), wanted)
        error = float("nan")
        if exact is not None:
            results = flat(loaded.module.double()(*(t.double() for t in inputs)))
            error = _differences(results, exact)[1]
    shapes = {
        spec.name: (BATCH, *tensor.shape[1:])
        for spec, tensor in zip(loaded.inputs, inputs, strict=True)
    }
    report = bnaudit.audit(path, batches=1, input_shapes=shapes, metrics=("first_order",))
    rows = 0 if report.run is None else report.run.data.batch_size
    orders = [layer.first_order for layer in report.layers]
    ratios = [
        order.residual / order.tolerance
        for order in orders
        if isinstance(order, FirstOrder) and isinstance(order.residual, float)
    ]
    opset = loaded.facts.get("opset")
    return Cell(
        opset=int(opset) if opset else None,
        absolute=absolute,
        relative=relative,
        exact=error,
        executed=executed,
        layers=len(report.layers),
        measured=sum(layer.measured for layer in report.layers),
        residual=max(ratios, default=float("nan")),
        rows=rows,
    )


def onnxruntime_outputs(path: Path, inputs: list[Tensor]) -> list[Tensor]:
    """What onnxruntime computes from the graph as it is, without its own rewriting."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, feeds)]


def flat(value: Any) -> list[Tensor]:
    """The tensors of whatever a network returns, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for part in value if part is not None for tensor in flat(part)]


def _differences(found: list[Tensor], wanted: list[Tensor]) -> tuple[float, float]:
    """The largest absolute one, and the largest in units of its output's largest value."""
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return float("inf"), float("inf")
    pairs = [(a.double(), b.double()) for a, b in zip(found, wanted, strict=True)]
    absolute = [float((a - b).abs().max()) for a, b in pairs]
    scales = [float(b.abs().max()) for _, b in pairs]
    return max(absolute), max(a / s for a, s in zip(absolute, scales, strict=True))
