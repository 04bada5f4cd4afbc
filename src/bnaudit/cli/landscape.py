"""`bnaudit landscape`: a model and data in, what the loss does along the gradient step out."""

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
from bnaudit.records.landscape import FORMS

if TYPE_CHECKING:
    from click.types import OptionHelpExtra

_TYPED = ("format", "batches", "output")
"""Options that have a meaning of their own here: a variable is set for audits."""


class _OwnOption(click.Option):
    heading = "Walk"

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """The default alone; a range is said where it is left."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class _Range(click.ParamType[tuple[float, float]]):
    """Two numbers with a colon between, or one for both."""

    name = "LOW:HIGH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """The two ends; whether they are a range is said where both are known."""
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition(":")
        try:
            return float(low), float(high or low)
        except ValueError:
            self.fail(f"{value!r} is no range of numbers such as 0.001:1", param, ctx)


_OWN = (
    _OwnOption(
        ["--eta"],
        type=_Range(),
        default="0.001:1",
        show_default=True,
        help="Steps of the paper's walk, w - eta g.",
    ),
    _OwnOption(
        ["--relative"],
        type=_Range(),
        default="0.001:1",
        show_default=True,
        help="Sizes of a step relative to the weights of each layer, which no rescaling in front of a "
        "BatchNorm changes.",
    ),
    _OwnOption(
        ["--steps"],
        type=click.IntRange(1, 1000),
        default=10,
        show_default=True,
        metavar="N",
        help="How many of each, evenly in their logarithm.",
    ),
    _OwnOption(
        ["--form"],
        type=click.Choice(("both", *FORMS)),
        default="both",
        show_default=True,
        help="Walk by eta, by relative steps, or both, at twice the cost.",
    ),
)


@click.command(
    "landscape",
    cls=Command,
    short_help="Walk along the gradient step.",
    params=[*_OWN, *options_of("landscape", typed=_TYPED)],
    examples=(
        "bnaudit landscape model.onnx --data batch.npz",
        "bnaudit landscape model.pt --data batch.npz --eta 0.01:0.4 --form raw --steps 5",
        "bnaudit landscape package.nets:resnet --weights checkpoint.pt --data batch.npz -o landscape.json",
    ),
)
@click.argument("model", metavar="MODEL", type=FileName("model"))
def command(model: str, **given: Any) -> int:
    """Walk from MODEL's weights along the gradient, with BatchNorm and with its statistics frozen.

    Figure 4 of Santurkar et al. (2018) on your own model: the loss, how far the gradient changes, and the
    effective beta-smoothness, over a range of steps. Frozen is the same network with each layer's
    statistics of the batch held fast: equal at the weights, which is checked, and different around them.
    A step costs a forward and a backward pass a batch, form and network; nothing of MODEL is changed.
    """
    tell_notes(quiet=given["quiet"])
    presentation = presentation_of("landscape", given, (model,))
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
        from bnaudit.landscaping import Asked, surveyed

        forms = FORMS if given["form"] == "both" else (given["form"],)
        asked = Asked(given["eta"], given["relative"], given["steps"], forms)
        with shown(presentation.progress) as progress:
            progress.stage("loading")
            record = surveyed(model, options, asked, progress)
    present(record, presentation)
    return record.exit_code
