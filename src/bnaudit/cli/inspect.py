"""`bnaudit inspect`: what a file says of its BatchNorm layers, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli import common
from bnaudit.cli.check import FAIL_ON
from bnaudit.cli.streams import color_wanted, table_width, unicode_stdout, write_stdout
from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from bnaudit.cli.params import Output
    from bnaudit.records.inspection import InspectionReport

_FORMATS = ("table", "json")
_EXIT_NO_BATCHNORM = 3


@click.command("inspect", short_help="Read a file without running it.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--layers", metavar="GLOB", help="Report only layers whose name matches ('layer4.*')."
)
@click.option("--channels", is_flag=True, help="Add per-channel arrays to the JSON.")
@click.option(
    "--format",
    "stdout_format",
    type=click.Choice([*_FORMATS, "none"]),
    default="table",
    show_default=True,
    help="What goes to stdout.",
)
@common.outputs
@click.option(
    "--fail-on",
    type=click.Choice([*FAIL_ON, "never"]),
    default="error",
    show_default=True,
    help="Exit with 1 for findings of this severity or worse.",
)
@click.option(
    "--allow-no-bn", is_flag=True, help="Exit with 0, not 3, for a file without BatchNorm."
)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True
)
@common.quiet
@click.option("--verbose", "-v", count=True, help="-vv: tracebacks.")
def command(model: Path, **given: Any) -> int:
    """Read what MODEL stores of its BatchNorm layers: nothing is run, and nothing in it is executed.

    ONNX, checkpoints, safetensors, TorchScript and torch.export files, told apart by content. A file
    without BatchNorm is explained: folded by the exporter, frozen, quantised, or never there; and how to
    export it with BatchNorm kept.

    \b
      bnaudit inspect model.onnx
      bnaudit inspect checkpoint.pt --format json --channels | jq '.layers[0].channel_values.gain'
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    outputs: tuple[Output, ...] = given["outputs"]
    for output in outputs:
        if output.format not in _FORMATS:
            raise UsageError(f"{output.path}: inspect writes .json and .txt only")
    from bnaudit.inspecting import inspect

    report = inspect(
        model,
        layers=given["layers"],
        fail_on=FAIL_ON.get(given["fail_on"]),
        allow_no_bn=given["allow_no_bn"],
    )
    _present(report, given)
    return report.exit_code


def _present(report: InspectionReport, given: dict[str, Any]) -> None:
    failed: UsageError | None = None
    for output in given["outputs"]:
        text = _text(report, output.format, given)
        try:
            output.path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            failed = UsageError(f"{output.path}: cannot be written ({error.strerror})")
    wanted = given["stdout_format"]
    if wanted != "none":
        color = color_wanted(given["color"])
        style = {"width": table_width(), "color": color, "unicode": unicode_stdout()}
        write_stdout(_text(report, wanted, given, **style))
    if failed is not None:
        raise failed
    if wanted != "table" and report.exit_code == _EXIT_NO_BATCHNORM and report.findings:
        # The table says it at length; whoever reads only stderr has to hear of it as well.
        click.echo(f"error: {report.findings[0].message}", err=True)
        click.echo(f"hint: {report.findings[0].fix}", err=True)


def _text(report: InspectionReport, name: str, given: dict[str, Any], **style: Any) -> str:
    return (
        report.to_json(channels=given["channels"]) if name == "json" else report.to_table(**style)
    )
