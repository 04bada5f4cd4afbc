"""`bnaudit init`: the better-initialisation lemma and scale invariance, from two files.

The flow: read both -> pair -> find what feeds BatchNorm -> run the trained one -> the lemma.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING

import numpy as np

from bnaudit.errors import BnauditError, RunError, UsageError
from bnaudit.initialisation.lemma import alignment, row_alignments
from bnaudit.initialisation.links import static_links
from bnaudit.initialisation.pairs import pair
from bnaudit.load.weights import RUNNABLE, read_weights
from bnaudit.records.initialisation import Alignment, FileInfo, InitReport, WeightReport
from bnaudit.records.values import NOT_REQUESTED, Skipped

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.initialisation.links import Links
    from bnaudit.initialisation.pairs import Pairs, Renamed
    from bnaudit.initialisation.run import Seen
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.initialisation import ScaleTest

_RANDOM = 3.0  # standard deviations
_ENOUGH, _MOST = 3, 0.9


def compare(
    start: Path,
    trained: Path,
    options: AuditOptions,
    progress: Progress,
    *,
    every: bool = False,
    run: bool = True,
) -> InitReport:
    """Compares a start with what training made of it.

    Args:
        start: file with the initial weights.
        trained: file with the trained weights of the same network.
        options: data, loss, device and seed of the run; `layers` restricts the weights.
        progress: told of stages and steps.
        every: parameters of one dimension too.
        run: whether to run the trained file, where it holds a network.

    Raises:
        InputError: a file cannot be read, or they are of different architectures.
        UsageError, DataError: options that were given do not fit the network.
    """
    progress.stage("reading")
    pairs = pair(read_weights(start), read_weights(trained), every=every, layers=options.layers)
    links = static_links(pairs)
    seen: Seen | Skipped = _run(pairs, options, progress) if run else NOT_REQUESTED
    if not isinstance(seen, Skipped):
        links = links.after_run(seen, pairs.trained)
    progress.stage("comparing", len(pairs.names))
    weights, identical = [], True
    for name in pairs.names:
        report, same = _weight(name, pairs, links, seen)
        weights.append(report)
        identical = identical and same
        progress.advance()
    return InitReport(
        start=_file(pairs.start),
        trained=_file(pairs.trained),
        identical=identical,
        weights=tuple(weights),
        run=seen if isinstance(seen, Skipped) else seen.info,
        notes=(
            *pairs.start.file.notes,
            *pairs.trained.file.notes,
            *pairs.notes,
            *_unrelated(weights),
        ),
    )


def _run(pairs: Pairs, options: AuditOptions, progress: Progress) -> Seen | Skipped:
    """The run, or why there is none: the lemma needs none, so only the user's mistakes end here."""
    file = pairs.trained.file
    if file.kind not in RUNNABLE:
        return Skipped(f"the trained file ({file.kind.value}) holds weights but no network to run")
    from bnaudit.data.synthetic import is_matched
    from bnaudit.initialisation.run import run_trained
    from bnaudit.load import load

    if is_matched(options.data):
        raise UsageError(
            "init makes no matched batches",
            hint="leave --data out: any batch shows what a weight's scale does",
        )
    try:
        loaded = load(file.path)
        if not loaded.batchnorms:
            return Skipped("the trained network has no BatchNorm")
        return run_trained(loaded, options, file.behind, progress)
    except BnauditError as error:
        asked = options.data is not None or options.labels is not None or options.input_shapes
        if asked and error.exit_code == 2 and not isinstance(error, RunError):
            raise
        hint = f" ({error.hint})" if error.hint else ""
        return Skipped(f"{error.message}{hint}")


def _weight(
    name: str, pairs: Pairs, links: Links, seen: Seen | Skipped
) -> tuple[WeightReport, bool]:
    """The report of one weight, and whether it is the same in both files."""
    before, after = pairs.start.tensors[name].read(), pairs.trained.tensors[name].read()
    shape = pairs.trained.tensors[name].shape
    followed, batchnorm, source = links.following(name, shape)
    if len(shape) > 1:
        rows = row_alignments(before, after, links.layout(name))
    else:
        rows = Skipped("one dimension: no rows")
    scale: ScaleTest | Skipped
    if isinstance(seen, Skipped):
        scale = seen
    else:
        why = "its BatchNorm was not executed" if followed == "yes" else "no BatchNorm follows"
        scale = seen.tests.get(pairs.trained.tensors[name].name, Skipped(why))
    report = WeightReport(
        name=name,
        shape=shape,
        followed=followed,
        batchnorm=batchnorm,
        followed_from=source,
        alignment=alignment(before, after),
        rows=rows,
        scale=scale,
    )
    return report, bool(np.array_equal(before, after))


def _unrelated(weights: list[WeightReport]) -> tuple[str, ...]:
    """A warning where the files look like two different runs.

    The cosine of two random vectors of n values has a standard deviation of 1/sqrt(n).
    """
    far = [
        abs(a.cosine) * sqrt(prod(w.shape)) < _RANDOM
        for w in weights
        if isinstance(a := w.alignment, Alignment) and not isinstance(a.cosine, Skipped)
    ]
    if len(far) < _ENOUGH or sum(far) < _MOST * len(far):
        return ()
    return (
        f"{sum(far)} of {len(far)} start weights are no nearer in direction to the trained ones than "
        "random weights would be: is this the start of the same run?",
    )


def _file(side: Renamed) -> FileInfo:
    file = side.file
    return FileInfo(str(file.path), file.kind.value, len(file.tensors), side.prefix)
