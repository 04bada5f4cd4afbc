"""`bnaudit inspect`: what a file says of its BatchNorm layers, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli import common
from bnaudit.cli.configured import configuration, configured, tell_notes
from bnaudit.cli.present import Presentation, annotated, present, say_why_nothing
from bnaudit.cli.several import each

if TYPE_CHECKING:
    from bnaudit.records.inspection import InspectionReport

_OF_AUDITS = ("format", "output", "baseline")
"""Keys of the configuration that say what becomes of an audit's report."""


@click.command("inspect", short_help="Read a file without running it.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--layers", metavar="GLOB", help="Report only layers whose name matches ('layer4.*')."
)
@click.option(
    "--entry",
    metavar="KEY",
    help="Of a checkpoint with several networks, the one to read ('state_dict_ema'); default: all.",
)
@common.channels
@common.stdout_format
@common.outputs
@common.baseline
@common.select
@common.ignore
@common.fail_on
@common.allow_no_bn
@configured(without=_OF_AUDITS)
@common.color
@common.progress
@common.quiet
@click.option("--verbose", "-v", count=True, help="-v: what is suppressed; -vv: tracebacks.")
def command(models: tuple[str, ...], **given: Any) -> int:
    """Read what each MODEL stores of its BatchNorm layers: nothing is run, and nothing in it is executed.

    ONNX, checkpoints, safetensors, TorchScript and torch.export files, weights in .npz, .pdparams, Keras
    and OpenVINO files, told apart by content. A file without BatchNorm is explained: folded by the
    exporter, frozen, quantised, or never there; and how to export it with BatchNorm kept. Of several files
    the highest exit code counts.

    \b
      bnaudit inspect model.onnx
      bnaudit inspect --allow-no-bn models/*.onnx
      bnaudit inspect checkpoint.pt --format json --channels | jq '.layers[0].channel_values.gain'
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    tell_notes(configuration(), quiet=given["quiet"])
    presentation = Presentation(
        stdout_format=given["stdout_format"],
        outputs=given["outputs"],
        color=given["color"],
        channels=given["channels"],
        progress=False,
        verbose=given["verbose"],
    )

    def one(model: str, presentation: Presentation) -> int:
        with annotated(model, presentation):
            report = _judged(Path(model), given)
        present(report, presentation)
        say_why_nothing(report, presentation)
        return report.exit_code

    return each(models, one, presentation, baseline=given["baseline"] is not None)


def _judged(model: Path, given: dict[str, Any]) -> InspectionReport:
    from bnaudit.config.policy import policy_of
    from bnaudit.inspecting import inspect

    earlier = None
    if given["baseline"] is not None:
        from bnaudit.compare.baseline import read_baseline

        earlier = read_baseline(given["baseline"])
    select, ignore = common.joined(given["select"]), common.joined(given["ignore"])
    report = inspect(
        model,
        layers=given["layers"],
        entry=given["entry"],
        policy=policy_of(configuration(), select, ignore),
        fail_on=common.FAIL_ON.get(given["fail_on"]),
        allow_no_bn=given["allow_no_bn"],
    )
    if earlier is None:
        return report
    from bnaudit.compare.baseline import inspection_against

    return inspection_against(report, earlier)
