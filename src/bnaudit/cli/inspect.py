"""`bnaudit inspect`: what a file says of its BatchNorm layers, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli.configured import config_options, configuration, tell_notes
from bnaudit.cli.limits import limited
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import Presentation, annotated, present, presentation_of, say_why_nothing
from bnaudit.cli.several import each
from bnaudit.config.options import BY_PARAMETER

if TYPE_CHECKING:
    from bnaudit.documents import InspectionReport

_OF_AUDITS = ("format", "output", "baseline")
"""Options that say what becomes of an audit's report, where they are not typed."""


@click.command(
    "inspect",
    cls=Command,
    short_help="Read a file without running it.",
    params=[*options_of("inspect", typed=_OF_AUDITS), *config_options(typed=_OF_AUDITS)],
    examples=(
        "bnaudit inspect model.onnx",
        "bnaudit inspect --allow-no-bn models/*.onnx",
        "bnaudit inspect checkpoint.pt --format json --channels | jq '.layers[0].channel_values.gain'",
    ),
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=FileName("model"))
def command(models: tuple[str, ...], **given: Any) -> int:
    """Read what each MODEL stores of its BatchNorm layers: nothing is run, and nothing in it is executed.

    ONNX, checkpoints, safetensors, TorchScript and torch.export files, weights in .npz, .pdparams, Keras
    and OpenVINO files, told apart by content. A file without BatchNorm is explained: folded by the
    exporter, frozen, quantised, or never there; and how to export it with BatchNorm kept. Of several files,
    or a folder of them, the highest exit code counts.
    """
    tell_notes(quiet=given["quiet"])
    presentation = presentation_of("inspect", given, models)

    def one(model: str, presentation: Presentation) -> int:
        with annotated(model, presentation):
            report = _judged(Path(model), given)
        present(report, presentation)
        say_why_nothing(report, presentation)
        return report.exit_code

    with limited(given):
        held = given["baseline"] is not None
        return each(models, one, presentation, command="inspect", baseline=held)


def _judged(model: Path, given: dict[str, Any]) -> InspectionReport:
    from bnaudit.config.policy import policy_of
    from bnaudit.inspecting import inspect

    earlier = None
    if given["baseline"] is not None:
        from bnaudit.documents import read_snapshot

        earlier = read_snapshot(Path(given["baseline"]))
    report = inspect(
        model,
        layers=given["layers"],
        entry=given["entry"],
        policy=policy_of(configuration(), given["select"], given["ignore"]),
        fail_on=BY_PARAMETER["fail_on"].accept(given["fail_on"]),
        allow_no_bn=given["allow_no_bn"],
    )
    if earlier is None:
        return report
    from bnaudit.compare.baseline import held_against

    return held_against(report, earlier)
