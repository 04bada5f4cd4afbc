"""A converted model against a runtime that reads the file itself: nothing converted is trusted blindly.

Both run the first sample batch in inference mode (BatchNorm on its running statistics) on the CPU in
the file's own precision. The reference is onnxruntime where it is installed, else the evaluator that
onnx brings along, which is written for clarity and slow.

The tolerance is 1e-4 of an output's largest entry in float32. Differences in the order of summation left
at most 2e-6 on 17 files (ten torchvision architectures with random weights, the reference networks);
an eps of 1e-3 in place of 1e-5 in a single layer of the reference networks leaves 3e-4 to 2e-2.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnaudit.data.outputs import named_tensors
from bnaudit.data.row_check import resized
from bnaudit.errors import BnauditError
from bnaudit.measure.execution import native_dtype
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.records.verification import OutputGap, Verification
from bnaudit.tap.call import plain
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnaudit.data.batch import Batch
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
_NOTHING = Skipped("nothing was converted: the model runs in the framework that it was made with")

Arrays = dict[str, "NDArray[Any]"]


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
    batch = session.batches.items[0]
    if loaded.static_batch is not None:
        batch = resized(batch, loaded.static_batch)
    try:
        converted = _converted(session, batch)
        from bnaudit.measure.reference import run_reference

        call = session.execution.call
        types = {spec.name: spec.dtype for spec in session.declared}
        given = {**dict(zip(call.names, batch.inputs, strict=True)), **call.values}
        feeds = {
            name: np.asarray(value).astype(types.get(name) or "float32", copy=False)
            for name, value in given.items()
        }
        reference, outputs = run_reference(loaded.path, feeds)
    except BnauditError as error:
        return Skipped(f"could not be compared: {error.message}")
    names = loaded.outputs
    if len(converted) != len(outputs) or len(names) != len(outputs):
        return Skipped(
            f"could not be compared: {len(converted)} outputs here, {len(outputs)} in {reference}"
        )
    gaps = tuple(_gap(n, a, b) for n, a, b in zip(names, converted, outputs, strict=True))
    return Verification(reference, gaps, _TOLERANCE.get(native_dtype(loaded.module), 1e-4))


def _converted(session: Session, batch: Batch) -> list[NDArray[Any]]:
    """What the converted model returns, in the file's precision; float16 runs as float32."""
    placed = session.placed
    execution, namer = session.execution, placed.namer
    if native_dtype(placed.loaded.module) != torch.float16:
        namer = namer.of_copy(placed.loaded.module)
        module = placed.loaded.module
        execution = execution.on(module, torch.device("cpu"), native_dtype(module))
    with tapped(namer, plain("running")) as tap, torch.no_grad():
        tap.start()
        execution.state.restore()
        outputs = named_tensors(execution.outputs(batch))
    found = [t.detach().cpu() for t in outputs.values()]
    return [np.asarray(t.float() if t.dtype == torch.bfloat16 else t) for t in found]


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
