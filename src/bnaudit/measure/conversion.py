"""A converted model against a runtime that reads the file itself: nothing converted is trusted blindly.

Both run the first sample batch in inference mode (BatchNorm on its running statistics) on the CPU in
the file's own precision. The reference is onnxruntime where it is installed, else the evaluator that
onnx brings along, which is written for clarity and slow.

The tolerance is 1e-4 of an output's scale in float32. Differences in the order of summation left
at most 2e-6 on 17 files (ten torchvision architectures with random weights, the reference networks);
an eps of 1e-3 in place of 1e-5 in a single layer of the reference networks leaves 3e-4 to 2e-2.

An output's scale is its largest entry. Behind a final softmax or sigmoid it is 1, and the logits are compared
as well: probabilities of 0 would agree with anything, and a quotient by what is all but 0 would agree with
nothing, since a runtime's sigmoid is exact to 1e-7 and not to a share of its value. An output that is a
decision (an argmax, the indices of the largest, a comparison) jumps where two values tie: what is taken
is how far apart the values are between which it chose otherwise, over their scale. Where an output is
a small difference of large terms, its scale is what its own rounding, a run in float64 beside it, says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from bnaudit.data.head import Inputs
from bnaudit.data.outputs import named_tensors
from bnaudit.data.row_check import resized
from bnaudit.errors import BnauditError
from bnaudit.measure.execution import native_dtype
from bnaudit.measure.session import in_float64
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.records.verification import UNCOMPARED, OutputGap, Verification
from bnaudit.tap.call import plain
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnaudit.data.batch import Batch
    from bnaudit.measure.reference import Reference
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
_NOTHING = Skipped("nothing was converted: the model runs in the framework that it was made with")

_NODE = re.compile(r"node '([^']+)'")
"""The node's name in a layer's origin."""

_ROUNDINGS = 10
"""How many times its own rounding error an output may be off: another order of summation, other kernels."""


def verify_conversion(
    session: Session, options: AuditOptions, progress: Progress
) -> Verification | Skipped:
    """Compares the outputs on the first batch; call inside `untouched`.

    Args:
        session: the model and its batches.
        options: whether it was asked for.
        progress: told of the stage.

    Returns:
        The differences, or why nothing was compared.
    """
    loaded = session.placed.loaded
    if not options.verify:
        return NOT_REQUESTED
    if loaded.format != "onnx" or loaded.path is None:
        return _NOTHING
    progress.stage("verifying the conversion")
    batch, native = session.batches.items[0], native_dtype(loaded.module)
    if loaded.static_batch not in {None, session.batches.info.batch_size}:
        batch = resized(batch, loaded.static_batch or 1)
    try:
        converted = _converted(session, batch, native)
        reference = _reference(session, batch)
    except BnauditError as error:
        return Skipped(f"{UNCOMPARED}: {error.message}")
    names, outputs = loaded.outputs, reference.outputs
    if not outputs or len(converted) != len(outputs) or len(names) != len(outputs):
        return Skipped(
            f"{UNCOMPARED}: {len(converted)} outputs here, {len(outputs)} in {reference.name}"
        )
    tolerance = _TOLERANCE.get(native, 1e-4)
    gaps = [_gap_of(n, a, b, reference) for n, a, b in zip(names, converted, outputs, strict=True)]
    if native != torch.float64 and any(tolerance < gap.relative < inf for gap in gaps):
        exact = _converted(session, batch, torch.float64)
        for k, (one, wide) in enumerate(zip(converted, exact, strict=True)):
            if names[k] in reference.decisions:
                continue  # that it turns over with the precision says nothing of a tie
            own = _gap(names[k], one.values, wide.values).max_abs
            if tolerance < gaps[k].relative < inf and gaps[k].max_abs <= _ROUNDINGS * own < inf:
                gaps[k] = replace(
                    gaps[k], relative=tolerance * gaps[k].max_abs / (_ROUNDINGS * own)
                )
    return Verification(reference.name, tolerance, tuple(gaps))


def _reference(session: Session, batch: Batch) -> Reference:
    """What a runtime makes of the file, with the values of `--input` and in the types that it declares."""
    from bnaudit.measure.reference import run_reference

    loaded, call = session.placed.loaded, session.execution.call
    types = {spec.name: spec.dtype for spec in session.declared}
    given = {**dict(zip(call.names, batch.inputs, strict=True)), **call.values}
    feeds = {
        name: np.asarray(value).astype(types.get(name) or "float32", copy=False)
        for name, value in given.items()
    }
    told = {name for name, _ in session.placed.namer.apart or ()}
    origins = [d.origin for d in loaded.batchnorms if d.name in told]
    if loaded.path is None:
        raise AssertionError("a converted model has a file")
    return run_reference(loaded.path, feeds, [n for o in origins for n in _NODE.findall(o)])


@dataclass(frozen=True, slots=True)
class _Output:
    """An output of the converted model, and what stands in front of its final activation."""

    values: NDArray[Any]
    in_front: NDArray[Any] | None


def _converted(session: Session, batch: Batch, dtype: torch.dtype) -> list[_Output]:
    """What the converted model returns in a precision; float16 runs as float32."""
    placed = session.placed
    execution, namer = session.execution, placed.namer
    if dtype == torch.float64:
        execution, namer = in_float64(session)
    elif dtype != torch.float16:
        module = placed.loaded.module
        namer = namer.of_copy(module)
        execution = execution.on(module, torch.device("cpu"), dtype)
    with tapped(namer, plain("running")) as tap, torch.no_grad(), Inputs() as inputs:
        tap.start()
        execution.state.restore()
        outputs = named_tensors(execution.outputs(batch)).values()
        return [_Output(_array(t), _array(inputs.in_front_of(t, shaped=False))) for t in outputs]


@overload
def _array(tensor: torch.Tensor) -> NDArray[Any]: ...
@overload
def _array(tensor: torch.Tensor | None) -> NDArray[Any] | None: ...
def _array(tensor: torch.Tensor | None) -> NDArray[Any] | None:
    if tensor is None:
        return None
    found = tensor.detach().cpu()
    return np.asarray(found.float() if found.dtype == torch.bfloat16 else found)


def _gap_of(name: str, found: _Output, wanted: NDArray[Any], reference: Reference) -> OutputGap:
    """An output's difference over its scale, or that of its logits where it is the larger."""
    gap = _gap(name, found.values, wanted)
    if name in reference.decisions and 0 < gap.max_abs < inf:
        return replace(gap, relative=reference.decisions[name].margin(found.values, wanted))
    if name not in reference.bounded or gap.max_abs == inf:
        return gap
    front, theirs = found.in_front, reference.in_front.get(name)
    logits = 0.0
    if front is not None and theirs is not None and front.shape == theirs.shape:
        logits = _gap(name, front, theirs).relative
    return replace(gap, relative=max(gap.max_abs, logits))


def _gap(name: str, found: NDArray[Any], wanted: NDArray[Any]) -> OutputGap:
    if found.shape != wanted.shape:
        return OutputGap(name, inf, inf)
    if not found.size:
        return OutputGap(name, 0.0, 0.0)
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return OutputGap(name, inf, inf)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return OutputGap(name, inf, inf)
    worst = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    scale = float(np.abs(b[finite]).max(initial=0.0))
    return OutputGap(name, worst, worst / scale if scale else (inf if worst else 0.0))
