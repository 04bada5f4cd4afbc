"""`bnaudit recalibrate`: a model and data in, the model with new running statistics out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli.configured import tell_notes
from bnaudit.cli.limits import limited
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import present, presentation_of
from bnaudit.cli.progress import shown
from bnaudit.cli.streams import stdout_reserved
from bnaudit.errors import UsageError
from bnaudit.records.recalibration import WAYS
from bnaudit.render.formats import FORMATS

if TYPE_CHECKING:
    from bnaudit.documents import Recalibration
    from bnaudit.progress import Progress

_TYPED = ("layers", "format", "batches", "channels")
"""Options that have a meaning of their own here: a variable is set for audits."""


class _OwnOption(click.Option):
    heading = "Recalibration"


_OWN = (
    _OwnOption(
        ["-o", "--output", "written"],
        type=FileName("output", Path),
        metavar="FIXED",
        help="The file to write, in the format of the model; never one that is read.",
    ),
    _OwnOption(["--dry-run"], is_flag=True, help="Write nothing: what would it do?"),
    _OwnOption(
        ["--way"],
        type=click.Choice(WAYS),
        default=WAYS[1],
        show_default=True,
        help="All layers at once, each with its batch's statistics; or each behind the mended ones.",
    ),
    _OwnOption(
        ["--force"],
        is_flag=True,
        help="Write although it is the wrong remedy, or makes the loss worse.",
    ),
)


@click.command(
    "recalibrate",
    cls=Command,
    short_help="Compute running statistics again.",
    params=[*_OWN, *options_of("recalibrate", typed=_TYPED)],
    examples=(
        "bnaudit recalibrate model.onnx --data train.npz -o fixed.onnx",
        "bnaudit recalibrate package.nets:resnet --weights ema.pt --data train.npz -o ema_fixed.pt",
        "bnaudit recalibrate model.pt --data deployed.npz --dry-run --layers 'layer4.*'",
    ),
)
@click.argument("model", metavar="MODEL", type=FileName("model"))
def command(model: str, **given: Any) -> int:
    """Compute the running statistics of MODEL's BatchNorm layers again from data, and write it with them.

    The remedy for averaged, merged or extrapolated weights, for training with tiny batches, for another
    resolution: wherever the network is fine with batch statistics and poor as deployed. Exact mean and
    variance over all rows; nothing else of the file changes. MODEL is an ONNX, TorchScript or torch.export
    file, or the code of a network with --weights, whose file is then written.
    """
    tell_notes(quiet=given["quiet"])
    output = _output(given)
    given["outputs"] = given["reports"]  # whose name is another here
    presentation = presentation_of("recalibration", given, (model,))
    from bnaudit.cli.check import audit_options
    from bnaudit.cli.execute import quiet_libraries

    with limited(given), stdout_reserved(), quiet_libraries(given["verbose"]):
        from bnaudit.load.reference import factory_reference
        from bnaudit.load.sniff import sniff

        if factory_reference(model) is None:
            sniff(
                Path(model)
            )  # a wrong file is told in milliseconds, not after the import of torch
        options = audit_options(given)
        with shown(presentation.progress) as progress:
            report = _report(model, options, output, given, progress)
    present(report, presentation)
    if report.refused:
        from bnaudit.recalibrating import RefusedError

        raise RefusedError(report)
    return report.exit_code


def _output(given: dict[str, Any]) -> Path | None:
    """The file to write; None where none is wanted."""
    output: Path | None = given["written"]
    if output is None and not given["dry_run"]:
        raise UsageError(
            "nothing says where to write the model",
            hint="-o FIXED names the file; --dry-run writes none",
        )
    if output is not None and given["dry_run"]:
        raise UsageError("--dry-run writes nothing", hint="leave -o or --dry-run out")
    suffixes = {form.suffix for form in FORMATS.values() if form.suffix}
    if output is not None and output.suffix.lower() in suffixes:
        raise UsageError(
            f"-o names {output}, and would hold the model",
            hint=f"--report {output} writes the report",
        )
    return output


def _report(
    model: str, options: Any, output: Path | None, given: dict[str, Any], progress: Progress
) -> Recalibration:
    from bnaudit.recalibrating import Asked, recalibrated

    asked = Asked(output, False, given["way"], given["force"], given["entry"])
    progress.stage("loading")
    return recalibrated(model, options, asked, progress)
