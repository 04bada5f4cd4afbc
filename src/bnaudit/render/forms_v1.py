"""Version 1 of the documents: where they differ from the records that they are made of.

A key may come to these documents, and none goes or changes its meaning: that would be a version 2, with a
table of its own beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from bnaudit.judge.rule import Entry, Rule
from bnaudit.records.curvature import CurvatureRow, SecondOrder
from bnaudit.records.diff import Diff, Movement, NumberChange
from bnaudit.records.drift import Drift
from bnaudit.records.finding import Finding
from bnaudit.records.fleet import FileRead, Fleet, FleetLayer, FleetRow
from bnaudit.records.initialisation import (
    InitReport,
    InitRun,
    Range,
    ScaleChange,
    WeightReport,
)
from bnaudit.records.inspection import BatchNormStatics, Inspection, InspectionReport
from bnaudit.records.landscape import Agreement, Landscape
from bnaudit.records.layer import ChannelValues, Extent, Gain, LayerReport
from bnaudit.records.matching import Mismatch
from bnaudit.records.recalibration import (
    LayerChange,
    Offset,
    Performance,
    Recalibration,
    WrittenFile,
)
from bnaudit.records.report import Report
from bnaudit.records.run import DataInfo, RunInfo
from bnaudit.records.snapshot import LayerSnapshot, Quantity, Snapshot
from bnaudit.records.training import Course, LayerState, LayerTrend, Moment, Trend, WatchRecord
from bnaudit.records.twins import Twin
from bnaudit.records.values import Count, Estimate, Limits, Skipped, Spread
from bnaudit.records.verification import Verification
from bnaudit.records.wire.forms import Computed, Form, Group
from bnaudit.summary.audit import (
    Difference,
    SecondOrderSummary,
    Summary,
    WeightSpaceSummary,
    summarize,
)
from bnaudit.summary.difference import DiffSummary, summarize_diff
from bnaudit.summary.gain import (
    StoredChannels,
    StoredExtent,
    StoredGain,
    extent_of,
    gain_of,
    is_foldable,
    stored_channels,
)
from bnaudit.summary.initialisation import InitSummary
from bnaudit.summary.initialisation import summarize as summarize_start
from bnaudit.summary.inspection import InspectSummary, summarize_inspection
from bnaudit.summary.landscape import LandscapeSummary
from bnaudit.summary.landscape import summarize as summarize_landscape
from bnaudit.summary.normal import NORMAL, Outside
from bnaudit.summary.recalibration import RecalibrationSummary
from bnaudit.summary.recalibration import summarize as summarize_recalibration
from bnaudit.summary.residuals import Residual
from bnaudit.summary.trend import TrendSummary
from bnaudit.summary.trend import summarize as summarize_trend
from bnaudit.summary.twins import effect

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS = {"minimum": "min", "maximum": "max"}
_COUNTS = Group(("errors", "warnings", "infos"), "How many findings there are, by severity.")
_BY_SEVERITY = {"errors": "error", "warnings": "warning", "infos": "info"}


def _end(name: str) -> Callable[[Quantity], float | None]:
    """A number of one batch has no interval."""
    return lambda quantity: getattr(quantity, name) if quantity.spread_known else None


FORMS: dict[type, Form] = {
    # What values are made of
    Spread: Form(whole=True, finite=True),
    Range: Form(whole=True, finite=True),
    Finding: Form(quiet=True),
    # A layer
    Gain: Form(names=_ENDS),
    Extent: Form(names=_ENDS),
    Drift: Form(
        names={"maximum": "max"},
        hidden=("excess", "batches", "groups"),
        groups={
            "per_channel": Group(
                ("signed", "margin", "least"),
                "A value for each channel; null unless asked for (--channels).",
            )
        },
        channels=("per_channel",),
    ),
    Mismatch: Form(hidden=("per_channel",)),
    CurvatureRow: Form(rows=True),
    ChannelValues: Form(whole=True),
    LayerReport: Form(
        names={"gain_batch": "batch", "gain_running": "running"},
        groups={
            "gain": Group(("gain_batch", "gain_running"), "|gamma|/sigma over the channels."),
            "statistics": Group(
                ("sigma", "leak", "statistics"),
                "How the channels behave on the sample batches, and against the stored statistics.",
            ),
        },
        hidden=("reads",),
        inline=("statistics",),
        channels=("channel_values",),
        skipped=True,
    ),
    SecondOrder: Form(channels=("rows",)),
    Twin: Form(
        computed={
            "ratio": Computed(
                "twin_grad_norm",
                float | Skipped,
                effect,
                "twin_grad_norm / grad_norm, the end-to-end effect; above 1 BatchNorm makes the "
                "gradients of the weights smaller.",
            )
        }
    ),
    Outside: Form(
        computed={
            "depends_on_scale": Computed(
                "high",
                bool,
                lambda entry: NORMAL[entry.quantity].gauge,
                "Whether the quantity depends on how large the weights happen to be.",
            )
        },
        quiet=True,
    ),
    # An audit
    DataInfo: Form(hidden=("sorted_by_label",)),
    Verification: Form(
        whole=True,
        computed={
            "verdict": Computed(
                "tolerance",
                Literal["agrees", "mismatch"],
                lambda found: "agrees" if found.agrees else "mismatch",
                "Whether every output is within the tolerance.",
            )
        },
    ),
    RunInfo: Form(skipped=True),
    Report: Form(
        names={"twins": "entries"},
        hidden=("fail_on", "allow_no_bn", "gradient_scale", "inspection", "thresholds"),
        groups={
            "twins": Group(
                ("twins",),
                "The model against itself with the same forward values and BatchNorm's backward replaced, "
                "everything upstream measured, on the first batch: its end-to-end effect.",
                True,
            ),
            "upstream": Group(
                ("upstream",),
                "BatchNorm's end-to-end effect on the gradients of the weights in front of it, first batch.",
                True,
            ),
            "deployment": Group(
                ("deployment",),
                "The network with running statistics, as deployed, beside the same with those of each batch.",
                True,
            ),
        },
        inline=("upstream", "deployment"),
        computed={
            "summary": Computed("baseline", Summary, summarize, "The report in a few numbers.")
        },
    ),
    Summary: Form(
        names={
            **_BY_SEVERITY,
            "worst": "worst_residual",
            "worst_difference": "worst_finite_difference",
        },
        groups={
            "findings": _COUNTS,
            "median": Group(
                ("statistics", "gain", "reduction"),
                "Over the layers, of their medians over the batches.",
            ),
        },
        skipped=True,
    ),
    Residual: Form(
        names={"value": "residual"},
        computed={
            "fraction": Computed(
                "tolerance",
                float,
                lambda residual: residual.fraction,
                "residual / tolerance; above 1 the check failed.",
            )
        },
        constant=True,
        quiet=True,
    ),
    Difference: Form(constant=True, quiet=True),
    SecondOrderSummary: Form(
        names={"worst": "worst_residual"},
        hidden=("bound_holding", "swept", "verified", "worst_verification"),
        computed={
            "bound_holds": Computed(
                "bound_layers",
                float | None,
                lambda summary: summary.bound_holds,
                "Share of them (0 to 1) where the bound holds; null where none was compared. A fact "
                "about the assumption behind the bound, no defect of the model.",
            )
        },
        quiet=True,
    ),
    WeightSpaceSummary: Form(names={"worst": "worst_residual"}, quiet=True),
    # A recalibration
    Estimate: Form(whole=True),
    Performance: Form(skipped=True),
    Offset: Form(whole=True),
    LayerChange: Form(
        names={"kept": "kept_because"}, channels=("running_mean", "running_var"), skipped=True
    ),
    WrittenFile: Form(whole=True),
    Recalibration: Form(
        computed={
            "summary": Computed(
                "way",
                RecalibrationSummary,
                summarize_recalibration,
                "The recalibration in a few numbers.",
            )
        },
        skipped=True,
    ),
    # A landscape
    Agreement: Form(
        computed={
            "equal": Computed(
                "tolerance", bool, lambda found: found.equal, "Whether both are within it."
            )
        },
    ),
    Landscape: Form(
        computed={
            "summary": Computed(
                "labels",
                LandscapeSummary,
                summarize_landscape,
                "The landscape in a few numbers.",
            )
        },
        skipped=True,
    ),
    # An inspection
    StoredGain: Form(names=_ENDS),
    StoredExtent: Form(names=_ENDS),
    BatchNormStatics: Form(
        names={"training": "training_flag"},
        hidden=("gamma", "beta", "running_mean", "running_var"),
        computed={
            "affine": Computed(
                "dtype", bool, lambda layer: layer.gamma is not None, "Whether it has gamma."
            ),
            "gain": Computed(
                "affine", StoredGain | Skipped, gain_of, "|gamma|/sigma over the channels."
            ),
            "running_var": Computed(
                "gain",
                StoredExtent | Skipped,
                lambda layer: extent_of(layer.running_var),
                "The running variance over the channels.",
            ),
            "fold_candidate": Computed(
                "of_weights",
                bool | None,
                is_foldable,
                "Whether an exporter could fold it into the layer in front; null without a graph.",
            ),
            "channel_values": Computed(
                "fold_candidate",
                StoredChannels,
                stored_channels,
                "A value for each channel; null unless asked for (--channels).",
            ),
        },
        channels=("channel_values",),
        skipped=True,
    ),
    Inspection: Form(
        names={"batchnorms": "layers"},
        groups={
            "model": Group(
                (
                    "path",
                    "kind",
                    "producer",
                    "facts",
                    "size",
                    "parameters",
                    "inputs",
                    "outputs",
                    "weight_layers",
                    "notes",
                ),
                "The file.",
            )
        },
    ),
    InspectionReport: Form(
        hidden=("fail_on", "allow_no_bn"),
        inline=("inspection",),
        computed={
            "summary": Computed(
                "baseline", InspectSummary, summarize_inspection, "The inspection in a few numbers."
            )
        },
    ),
    InspectSummary: Form(names=_BY_SEVERITY, groups={"findings": _COUNTS}),
    # A comparison of two reports
    Snapshot: Form(
        names={"tool": "version"},
        hidden=("kind", "settings", "layers", "findings", "suppressed", "not_judged"),
        computed={
            "layers": Computed(
                "version", Count, lambda side: len(side.layers), "BatchNorm layers in it."
            ),
            "findings": Computed(
                "layers", Count, lambda side: len(side.findings), "Findings in it."
            ),
        },
    ),
    LayerSnapshot: Form(
        hidden=("kind", "numbers"),
        computed={
            "kind": Computed(
                "label",
                str | None,
                lambda layer: layer.kind or None,
                "BatchNorm1d and the like, null where the report does not tell.",
            )
        },
    ),
    Quantity: Form(
        hidden=("low", "high", "spread_known"),
        computed={
            end: Computed(after, float | None, _end(end), sentence)
            for end, after, sentence in (
                ("low", "value", "What its measurement allows at least; null without a spread."),
                ("high", "low", "What its measurement allows at most; null without a spread."),
            )
        },
    ),
    NumberChange: Form(
        computed={
            "relative_change": Computed(
                "new",
                Annotated[float, Limits(minimum=0, finite=True)],
                lambda change: change.size,
                "|new - old| over the larger of both, from 0 to 2.",
            )
        }
    ),
    Movement: Form(
        computed={
            "parameters_moved": Computed(
                "tolerance", bool, lambda m: m.parameters, "Whether gamma or beta moved beyond it."
            ),
            "statistics_moved": Computed(
                "parameters_moved",
                bool,
                lambda m: m.statistics,
                "Whether the running mean or variance moved beyond it.",
            ),
        },
        skipped=True,
    ),
    Diff: Form(
        hidden=("unchanged", "fail_on"),
        groups={
            "findings": Group(
                ("appeared", "worse", "better", "gone", "not_judged"),
                "Findings, matched by rule and layer.",
            ),
            "layers": Group(
                ("added", "removed", "renamed"),
                "BatchNorm layers, matched by label, then by structure.",
            ),
        },
        computed={
            "kind": Computed(
                "",
                Literal["audit", "inspection"],
                lambda diff: diff.new.kind,
                "What was compared: audits, or inspections, which ran nothing.",
            ),
            "summary": Computed("movements", DiffSummary, summarize_diff, "What changed, counted."),
        },
        skipped=True,
    ),
    # A comparison with the start
    InitRun: Form(
        names={"loss": "name", "loss_why": "why"},
        groups={"loss": Group(("loss", "loss_why", "labels", "value"), "What was differentiated.")},
        computed={
            "dtype": Computed("device", Literal["float64"], lambda _: "float64", "Its precision.")
        },
        whole=True,
    ),
    ScaleChange: Form(named="factor"),
    WeightReport: Form(
        names={
            "batchnorm": "name",
            "followed_from": "source",
            "alignment": "whole",
        },
        groups={
            "batchnorm": Group(
                ("followed", "batchnorm", "followed_from"), "The BatchNorm that it feeds."
            )
        },
        skipped=True,
    ),
    InitReport: Form(
        computed={
            "summary": Computed(
                "weights", InitSummary, summarize_start, "The comparison in a few numbers."
            )
        },
        skipped=True,
    ),
    InitSummary: Form(
        names={
            "before": "before_batchnorm",
            "tested": "scale_tested",
            "broken": "residual_above_tolerance",
        },
        hidden=("with_k",),
        quiet=True,
    ),
    # Over training
    LayerState: Form(skipped=True),
    WatchRecord: Form(skipped=True),
    Moment: Form(skipped=True),
    Course: Form(whole=True),
    LayerTrend: Form(skipped=True),
    Trend: Form(
        computed={
            "summary": Computed(
                "runs", TrendSummary, summarize_trend, "The run in a few numbers and a sentence."
            )
        },
        skipped=True,
    ),
    # A fleet
    FileRead: Form(whole=True),
    FleetLayer: Form(quiet=True),
    FleetRow: Form(
        hidden=("report",),
        computed={
            "summary": Computed(
                "parameters",
                Summary | None,
                lambda row: None if row.report is None else summarize(row.report),
                "The report in a few numbers, as in its own document; null where there is none.",
            )
        },
    ),
    Fleet: Form(hidden=("rows",)),
    # The rules
    Rule: Form(hidden=("inspect", "check", "healthy", "sick", "not_applicable")),
    Entry: Form(inline=("rule",)),
}

STARTS: dict[type, Form] = {**FORMS, DataInfo: Form(hidden=("batches", "sorted_by_label"))}
"""Of comparisons with the start, which run one batch."""
