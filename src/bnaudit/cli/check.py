"""`bnaudit check`: options in, exit code out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli import common
from bnaudit.cli.configured import configuration, configured, settled, tell_notes
from bnaudit.cli.model_options import model_options, model_settings
from bnaudit.cli.params import LAYER_COUNT, METRIC_NAMES, Output
from bnaudit.cli.several import each
from bnaudit.cli.streams import stdout_reserved
from bnaudit.metrics import DEFAULT, METRICS
from bnaudit.options import DTYPES, MODES, AuditOptions

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.snapshot import Snapshot

_COSTS = "; ".join(f"{name} {info.cost}" for name, info in METRICS.items())


@click.command("check", short_help="Audit a model.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@model_options
@click.option(
    "--data",
    "-d",
    multiple=True,
    metavar="PATH",
    help="Sample batch: .npz keyed by input name, .npy or .pt tensors, or file.py:function that "
    "yields batches. Repeat to join rows or add inputs (NAME=PATH). Default: the batch "
    "inside a .pt2 file, else a synthetic one.",
)
@click.option(
    "--labels",
    metavar="KEY|PATH",
    help="Labels: a key in --data, or a file. [default: the key 'labels', if there]",
)
@click.option(
    "--loss",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="cross_entropy, nll, mse, bce (with logits), noise_mse (needs no labels), auto (by the "
    "labels there are), or file.py:function(output, labels).",
)
@click.option(
    "--batches",
    type=click.IntRange(1),
    metavar="N",
    help="Batches to run. [default: up to 8; synthetic: 4]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Rows in each. [default: up to 32; synthetic: 8]",
)
@common.input_shapes
@common.device
@click.option(
    "--dtype", type=click.Choice(DTYPES), help="Precision of the run. [default: the model's own]"
)
@common.seed
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="batch",
    show_default=True,
    help="Normalise with batch statistics, as in training, or with the running ones.",
)
@click.option(
    "--verify-gradients",
    type=LAYER_COUNT,
    default=0,
    help="Measure the reduction at N layers (or all) again by central finite differences in float64: "
    "four forward passes a layer, no BatchNorm backward.",
)
@click.option(
    "--verify-second-order",
    type=LAYER_COUNT,
    default=0,
    help="Compute the second order of N layers (or all) in float64 twice, by the sweep and by double "
    "backward, and compare.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="What the second-order sweep may hold in tangents, such as 500MB or 2GB; less takes longer. "
    "[default: by what a training step takes, and what is free]",
)
@click.option(
    "--metrics",
    "-m",
    type=METRIC_NAMES,
    default=",".join(DEFAULT),
    show_default=True,
    help=f"What to measure, or all. Cost in forward passes F: {_COSTS}.",
)
@click.option(
    "--layers", metavar="GLOB", help="Measure only layers whose name matches ('layer4.*')."
)
@click.option(
    "--twins",
    metavar="LAYER",
    help="With the metric twins: also replace this layer alone, besides all at once.",
)
@common.channels
@common.stdout_format
@common.outputs
@common.baseline
@common.select
@common.ignore
@common.fail_on
@common.allow_no_bn
@configured()
@common.color
@common.progress
@common.quiet
@click.option(
    "--verbose", "-v", count=True, help="-v: timings; -vv: library warnings and tracebacks."
)
def command(models: tuple[str, ...], **given: Any) -> int:
    """Audit the BatchNorm layers of a model; of several, the highest exit code counts.

    MODEL is an ONNX, TorchScript or torch.export file (told apart by content), or
    package.module:factory or file.py:factory, whose code is imported and run.

    \b
      bnaudit check model.onnx --data batch.npz
      bnaudit check model.pt --input-shape 8x3x224x224 --verify-gradients 5
      bnaudit check model.pt2 --trust
      bnaudit check package.nets:resnet --arg depth=18 --weights checkpoint.pt --data batch.npz
      bnaudit check model.onnx --data batch.npz --format json | jq .summary
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    from bnaudit.cli.execute import execute
    from bnaudit.cli.present import Presentation

    tell_notes(configuration(), quiet=given["quiet"])
    given = settled(given)
    outputs: tuple[Output, ...] = given["outputs"]
    presentation = Presentation(
        stdout_format=given["stdout_format"],
        outputs=outputs,
        color=given["color"],
        channels=given["channels"],
        progress=given["progress"] and not given["quiet"],
        verbose=given["verbose"],
    )
    with stdout_reserved():  # functions of the user's own may print
        options = audit_options(given)

    def one(model: str, presentation: Presentation) -> int:
        return execute(model, options, presentation)

    return each(models, one, presentation, baseline=options.baseline is not None)


def audit_options(given: dict[str, Any]) -> AuditOptions:
    """What the options of the command line say of an audit.

    Raises:
        BnauditError: a function of the user's own or the baseline cannot be read.
    """
    from bnaudit.cli.user_code import user_data, user_object
    from bnaudit.config.policy import policy_of

    select, ignore = common.joined(given["select"]), common.joined(given["ignore"])
    return AuditOptions(
        **model_settings(given),
        data=user_data(given["data"]),
        labels=given["labels"],
        loss=user_object(given["loss"]) or given["loss"],
        batches=given["batches"],
        batch_size=given["batch_size"],
        input_shapes=common.shapes_by_name(given["input_shapes"]),
        device=given["device"],
        dtype=given["dtype"],
        seed=given["seed"],
        mode=given["mode"],
        verify_gradients=given["verify_gradients"],
        verify_second_order=given["verify_second_order"],
        memory=given["memory"],
        metrics=given["metrics"],
        layers=given["layers"],
        twins=given["twins"],
        channels=given["channels"],
        fail_on=common.FAIL_ON.get(given["fail_on"]),
        allow_no_bn=given["allow_no_bn"],
        policy=policy_of(configuration(), select, ignore),
        baseline=_baseline(given["baseline"]),
    )


def _baseline(path: Path | None) -> Snapshot | None:
    if path is None:
        return None
    from bnaudit.documents import read_snapshot

    return read_snapshot(path)
