"""`bnaudit init`: two files in, the better-initialisation lemma out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli import common
from bnaudit.cli.progress import shown
from bnaudit.cli.streams import stdout_reserved, table_width, unicode_stdout, write_stdout
from bnaudit.errors import UsageError
from bnaudit.options import AuditOptions

if TYPE_CHECKING:
    from bnaudit.cli.params import Output
    from bnaudit.records.initialisation import InitReport

_FORMATS = ("table", "json")


@click.command("init", short_help="Compare a trained network with its start.")
@click.argument("start", type=click.Path(path_type=Path))
@click.argument("trained", type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, help="Compare biases and other 1-D parameters too.")
@click.option("--layers", metavar="GLOB", help="Compare only parameters whose name matches.")
@click.option("--no-run", is_flag=True, help="Do not run TRAINED: no scale-invariance test.")
@click.option(
    "--data",
    "-d",
    multiple=True,
    metavar="PATH",
    help="Sample batch, as for check; its first rows are used. Default: a synthetic batch.",
)
@click.option("--labels", metavar="KEY|PATH", help="Labels: a key in --data, or a file.")
@click.option("--loss", default="auto", show_default=True, metavar="NAME", help="As for check.")
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Rows of the batch.")
@common.input_shapes
@common.device
@common.seed
@click.option(
    "--format",
    "stdout_format",
    type=click.Choice([*_FORMATS, "none"]),
    default="table",
    show_default=True,
    help="What goes to stdout.",
)
@common.outputs
@common.progress
@common.quiet
@click.option("--verbose", "-v", count=True, help="-vv: library warnings and tracebacks.")
def command(start: Path, trained: Path, **given: Any) -> int:
    """Compare START, a network's initial weights, with TRAINED, what training made of them.

    Checkpoints, safetensors, ONNX and TorchScript files, told apart by content; the two may differ in
    format. Before a BatchNorm W and kW, k > 0, are the same function: some point of the ray of W is
    nearer to the start than W. Where TRAINED can be run, scale invariance itself is measured.

    \b
      bnaudit init epoch_0.pt epoch_90.pt
      bnaudit init epoch_0.pt model.onnx --data batch.npz --format json
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    outputs: tuple[Output, ...] = given["outputs"]
    for output in outputs:
        if output.format not in _FORMATS:
            raise UsageError(f"{output.path}: init writes .json and .txt only")
    with stdout_reserved(), warnings.catch_warnings():
        if given["verbose"] < 2:
            warnings.simplefilter("ignore")
        report = _compare(start, trained, given)
    return _present(report, given["stdout_format"], outputs)


def _compare(start: Path, trained: Path, given: dict[str, Any]) -> InitReport:
    from bnaudit.cli.user_code import user_data, user_object
    from bnaudit.load.sniff import sniff

    for path in (start, trained):
        sniff(path)  # a wrong file is told in milliseconds, not after the import of torch
    options = AuditOptions(
        data=user_data(given["data"]),
        labels=given["labels"],
        loss=user_object(given["loss"]) or given["loss"],
        batch_size=given["batch_size"],
        input_shapes=common.shapes_by_name(given["input_shapes"]),
        device=given["device"],
        seed=given["seed"],
        layers=given["layers"],
    )
    from bnaudit.initialisation import compare

    with shown(given["progress"] and not given["quiet"]) as progress:
        return compare(
            start, trained, options, progress, every=given["every"], run=not given["no_run"]
        )


def _present(report: InitReport, stdout_format: str, outputs: tuple[Output, ...]) -> int:
    failed: UsageError | None = None
    for output in outputs:
        text = _render(report, output.format, 100, unicode=True)
        try:
            output.path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            failed = UsageError(f"{output.path}: cannot be written ({error.strerror})")
    if stdout_format != "none":
        write_stdout(_render(report, stdout_format, table_width(), unicode=unicode_stdout()))
    if failed is not None:
        raise failed
    return 0


def _render(report: InitReport, name: str, width: int, *, unicode: bool) -> str:
    if name == "json":
        from bnaudit.render.init_json_v1 import init_to_json

        return init_to_json(report)
    from bnaudit.render.text import init_to_text

    return init_to_text(report, width=width, unicode=unicode)
