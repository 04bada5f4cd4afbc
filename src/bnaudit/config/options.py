"""The table of options: one is declared here, once.

From its row come what the commands take (`bnaudit.cli.options`), the keys of a configuration and their
schema, the environment variables, `bnaudit config`, the checks of `AuditOptions`, and the table in
docs/configuration.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit.config import relocate
from bnaudit.config.data_kinds import Images, Names
from bnaudit.config.kinds import (
    Batches,
    Columns,
    Count,
    Flag,
    Kind,
    LayerCount,
    Order,
    Outputs,
    Pairs,
    Shapes,
    Size,
    StdoutFormat,
    Texts,
    Whole,
    Word,
    Words,
)
from bnaudit.config.loss_kinds import Values
from bnaudit.config.rule_kinds import FailOn, PerLayer, Rules, Severities, Thresholds
from bnaudit.losses import LOSSES, SETTINGS
from bnaudit.metrics import DEFAULT, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MODES = ("batch", "running")
DTYPES = ("float32", "float64", "bfloat16")

HEADINGS = ("Model", "Data", "What to measure", "Verdict", "Output", "Run")
"""Of --help, in this order."""
MODEL, DATA, MEASURE, VERDICT, OUTPUT, RUN = HEADINGS


@dataclass(frozen=True)
class Option:
    """One option of `check` and the commands that share it, or a key that only a file has.

    Attributes:
        name: as it is typed, without dashes, and the key of the file where there is one.
        heading: of `HEADINGS`.
        kind: what it takes.
        help: a sentence or two for --help; "{formats}", "{suffixes}" and "{columns}" are those of the
            command.
        default: in the form that the file has, else `Kind.empty`; None where the audit decides.
        unset: the default in words, where --help shows no value, or not that one.
        parameter: its name in Python, the field of `AuditOptions` if there is one; None for a key that
            cannot be typed.
        short: one letter.
        commands: that have it.
        elsewhere: command -> another help.
        key: whether a file may set it; a text where the file names it otherwise.
        typed_only: whether neither a file nor a variable may: what is of one model, or gives leave.
        relocate: makes the value's paths, relative to the file, relative to the working directory.
        coerce: what Python code may give instead, made into what `kind` takes.
    """

    name: str
    heading: str
    kind: Kind
    help: str
    default: Any = None
    unset: str | None = None
    parameter: str | None = ""
    short: str | None = None
    commands: tuple[str, ...] = ("check", "diff")
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    key: bool | str = True
    typed_only: bool = False
    relocate: Callable[[Any, str], Any] | None = None
    coerce: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.parameter == "":
            object.__setattr__(self, "parameter", self.name.replace("-", "_"))
        if self.default is None:
            object.__setattr__(self, "default", self.kind.empty)

    @property
    def key_name(self) -> str | None:
        """In a file, or None."""
        if self.typed_only or not self.key:
            return None
        return self.name if self.key is True else self.key

    @property
    def variable(self) -> str | None:
        """In the environment, or None."""
        if self.typed_only or self.parameter is None:
            return None
        return "BNAUDIT_" + self.name.upper().replace("-", "_")

    @property
    def clause(self) -> str:
        """What it is for, in a few words: the help up to its first break."""
        return re.split(r"[.:;](?: |$)| \(", self.help)[0]

    def accept(self, value: Any) -> Any:
        """What a field holds for a value of any source.

        Raises:
            UsageError: the value has no meaning.
        """
        if self.default is None and value is None:
            return None
        plain = value if self.coerce is None else self.coerce(value)
        return self.kind.accept(str(self.parameter), plain)


_ALL = ("check", "inspect", "diff", "init")
_JUDGING = ("check", "inspect", "diff")
_REPORTING = ("check", "inspect")
_RUNNING = ("check", "diff", "init", "recalibrate", "landscape", "trend")
_LOADING = ("check", "diff", "recalibrate", "landscape")
_VIEWED = ("check", "inspect", "init", "recalibrate")
_CODE = (*_LOADING, "trend")
_PAGES = (*_ALL, "recalibrate", "landscape", "trend")
_COSTS = "; ".join(f"{name} {info.cost}" for name, info in METRICS.items())

# fmt: off
OPTIONS: tuple[Option, ...] = (
    # a file that lies about, or a variable that was inherited, gives itself no leave
    Option("trust", MODEL, Flag(),
           "Load a torch.export file (.pt2) although it can run code of whoever wrote it.",
           typed_only=True, commands=_LOADING),
    # it is of the one model that is typed, as the next three
    Option("weights", MODEL, Kind(metavar="FILE", files=True),
           "Weights for a factory's network: a checkpoint, safetensors, TorchScript or ONNX "
           "file.", typed_only=True, commands=_LOADING),
    Option("arg", MODEL, Pairs(),
           "Argument of a factory: numbers, true, false, none, texts, lists. Repeatable.",
           parameter="kwargs", typed_only=True, commands=_CODE),
    Option("strict", MODEL, Flag(),
           "Whether the weights have to name every tensor of the network.", default=True,
           unset="strict", typed_only=True, commands=_CODE),
    Option("input", MODEL, Pairs(),
           "Value of an argument of the model that is no data (scale=0.5, flag=true). "
           "Repeatable.", parameter="inputs", typed_only=True, commands=_CODE),
    Option("entry", MODEL, Kind(metavar="KEY", wanted="an entry's name"),
           "Entry to read of a checkpoint with several networks ('state_dict_ema').",
           unset="the one that fits the network", typed_only=True,
           commands=(*_REPORTING, "recalibrate", "landscape", "trend"),
           elsewhere={"trend": "Entry to read of checkpoints with several networks ('state_dict_ema'). "
                               "Default: all.",
                      "inspect": "Entry to read of a checkpoint with several networks "
                                 "('state_dict_ema'). Default: all."}),
    Option("verify", MODEL, Flag(),
           "Compare an ONNX model's outputs as converted with onnxruntime's (or onnx's own)."),
    Option("data", DATA, Texts(metavar="PATH", wanted="a path, or a list of paths", files=True),
           "Sample batches: .npz, .npy, .pt tensors, .safetensors, .csv, .parquet, a folder of images, "
           "Polygraphy's .json, or file.py:function that gives a loader. Repeat to join rows or add inputs "
           "(NAME=PATH). Or the word matched: batches optimised to have the model's own running statistics. "
           "Default: the batch inside a .pt2 file, else a synthetic one.",
           short="d", commands=_RUNNING,
           relocate=relocate.data,
           elsewhere={"trend": "Sample batches, as for check: the checkpoints are run, with --code or as "
                               "the networks that they are.",
                      "recalibrate": "The rows to compute statistics of, as for check; all of them are used.",
                      "init": "Sample batch, as for check; some of its rows are used. Default: a "
                              "synthetic batch."}),
    Option("map", DATA, Names(),
           "Which array of the data an input takes, where their names differ; others are left out. "
           "Repeatable.", commands=_RUNNING),
    Option("images", DATA, Images(),
           "How a folder of images is read: size, crop, mean, std (numbers, or imagenet), channels "
           "(rgb, bgr, gray), layout (nchw, nhwc), range (1, 255), resample. Repeatable.", commands=_RUNNING),
    Option("labels", DATA, Kind(metavar="KEY|PATH", wanted="a key of the data, or a path", files=True),
           "Labels: a key in --data, or a file.",
           unset="the key 'labels', 'label', 'target', 'y' or the like, if there",
           commands=_RUNNING, relocate=relocate.labels),
    Option("loss", DATA, Kind(metavar="NAME", wanted="a name, or file.py:function"),
           f"Loss: {', '.join(LOSSES)}, noise_mse (needs no labels), returned (the model's own), auto "
           "(by labels and output), or file.py:function(output, labels), or (output, batch).",
           default="auto", commands=_RUNNING, relocate=relocate.function,
           elsewhere={"init": "As for check."}),
    Option("loss-option", DATA, Values(),
           f"Option of the loss: {', '.join(SETTINGS)}; of a function, its keyword arguments. Repeatable.",
           parameter="loss_options", commands=_RUNNING, key="loss-options",
           elsewhere={"init": "As for check.", "recalibrate": "As for check."}),
    Option("loss-output", DATA, Kind(metavar="NAME|INDEX", wanted="an output's name or number"),
           "Take the loss of this output alone.", unset="the one called logits or the like, else the first",
           commands=_RUNNING, coerce=str),
    Option("batches", DATA, Batches(),
           "Batches to run. auto: 8 to 64, until the interval of every layer's median |g|/|G| is within 5 %, "
           "or the data end.", unset="auto, synthetic or matched 4",
           commands=_CODE,
           elsewhere={"recalibrate": "Batches to run; all where it is left out.",
                      "landscape": "Batches to walk on, each at the cost of all steps; up to 4 where it is "
                                   "left out."}),
    Option("batch-size", DATA, Whole(1),
           "Rows in each.", unset="up to 32, synthetic 8, matched 8 or 32", commands=_RUNNING,
           elsewhere={"init": "Rows of the batch.", "recalibrate": "Rows in each, at most."}),
    Option("input-shape", DATA, Shapes(),
           "Shape of a synthetic input, batch first. Repeat for several inputs.",
           parameter="input_shapes", commands=("check", "diff", "init", "landscape", "trend"),
           key="input-shapes"),
    Option("match-steps", DATA, Whole(1),
           "With --data matched: forward and backward passes for each batch, at most.", unset="60"),
    Option("match-cache", DATA, Flag(),
           "With --data matched: keep the batches in the user's cache folder, and take them from there."),
    Option("metrics", MEASURE, Words(tuple(METRICS), "metric"),
           f"What to measure, or all. Cost in forward passes F: {_COSTS}.", default=DEFAULT,
           short="m"),
    Option("layers", MEASURE, Kind(metavar="GLOB", wanted="a pattern"),
           "Measure only layers whose name matches ('layer4.*').", commands=(*_ALL, "recalibrate", "trend"),
           elsewhere={"trend": "Only layers whose name matches ('layer4.*').",
                      "inspect": "Report only layers whose name matches ('layer4.*').",
                      "init": "Compare only parameters whose name matches.",
                      "recalibrate": "Only layers whose name matches ('layer4.*'); others keep theirs."}),
    Option("twins", MEASURE, Kind(metavar="LAYER", wanted="a layer's name"),
           "Layer that the metric twins also replaces alone, besides all at once."),
    Option("mode", MEASURE, Word(MODES),
           "Normalise with batch statistics, as in training, or with the running ones.",
           default="batch"),
    Option("verify-gradients", MEASURE, LayerCount(),
           "Measure the reduction again, by central finite differences in float64, at N layers"
           " or all: four forward passes a layer, no BatchNorm backward.", default=0),
    Option("verify-second-order", MEASURE, LayerCount(),
           "Compute the second order at N layers or all twice, by the sweep and by double "
           "backward, in float64, and compare.", default=0),
    Option("fail-on", VERDICT, FailOn(),
           "Exit with 1 for findings of this severity or worse.", default="error",
           commands=_JUDGING),
    Option("baseline", VERDICT, Kind(metavar="REPORT.json", wanted="a path", files=True),
           "An earlier report (-o report.json): only findings that it lacks, or that are "
           "worse, fail.", commands=_REPORTING, relocate=relocate.path),
    Option("allow-no-bn", VERDICT, Flag(),
           "Exit with 0, not 3, for a model without BatchNorm.", commands=_REPORTING),
    Option("select", VERDICT, Rules(),
           "Run only these rules: ids, names or beginnings of ids (BN1), by commas. "
           "Repeatable.", commands=_JUDGING),
    Option("ignore", VERDICT, Rules(),
           "Suppress the findings of these rules: they are counted and shown, but fail "
           "nothing.", commands=_JUDGING),
    Option("severity", VERDICT, Severities(),
           "Severity of all findings of a rule.", parameter=None),
    Option("thresholds", VERDICT, Thresholds(),
           "Thresholds of a rule.", parameter=None),
    Option("per-layer", VERDICT, PerLayer(),
           "Rules that are silent at the layers whose label matches.", parameter=None),
    Option("format", OUTPUT, StdoutFormat(),
           "What goes to stdout: {formats}.", default="table", parameter="stdout_format",
           commands=(*_PAGES, "rules")),
    Option("output", OUTPUT, Outputs(),
           "Also write a file, in the format that its suffix says ({suffixes}), or "
           "FORMAT=FILE. Repeatable.", parameter="outputs", short="o",
           commands=(*_ALL, "landscape", "trend", "rules"),
           relocate=relocate.outputs),
    # -o is the model that this command writes
    Option("report", OUTPUT, Outputs(),
           "Also write the report, in the format that its suffix says ({suffixes}), or "
           "FORMAT=FILE. Repeatable.", parameter="reports", commands=("recalibrate",), typed_only=True),
    # what one look at one model is to show
    Option("columns", OUTPUT, Columns(),
           "Columns of the main table, by commas and in this order, whatever fits: in text, Markdown and "
           "HTML; all, or some of {columns}.", typed_only=True, commands=_VIEWED),
    Option("sort", OUTPUT, Order(),
           "Column to sort the main table by: the largest first, and names by letter; COLUMN:up and "
           "COLUMN:down say which way.", unset="the order of the model", typed_only=True, commands=_VIEWED),
    Option("top", OUTPUT, Whole(1),
           "Only the first rows of the main table.", unset="all", typed_only=True, commands=_VIEWED),
    Option("channels", OUTPUT, Flag(),
           "Add per-channel arrays to the JSON, and to the HTML.", commands=(*_REPORTING, "recalibrate")),
    # how one person wants to see a run is no matter of the project's, as the last three
    Option("color", OUTPUT, Word(("auto", "always", "never")),
           "Whether the table has colour.", default="auto", key=False,
           commands=(*_JUDGING, "recalibrate", "landscape", "trend")),
    Option("device", RUN, Kind(wanted="a device"),
           "Device: cpu, cuda, cuda:N or mps.", default="cpu", commands=_RUNNING, coerce=str),
    Option("dtype", RUN, Word(DTYPES),
           "Precision of the run.", unset="the model's own",
           coerce=lambda value: str(value).removeprefix("torch."), commands=_CODE),
    Option("seed", RUN, Whole(0, 2**32 - 1),
           "Of everything random: same seed, same report.", default=0, unset="0",
           commands=_RUNNING),
    Option("memory", RUN, Size(),
           "What the second-order sweep may hold in tangents (500MB, 2GB); less takes longer.",
           unset="by what a training step takes, and what is free"),
    Option("timeout", RUN, Whole(1, 10**6),
           "Seconds after which the command ends, with exit code 4.", unset="none",
           commands=_PAGES),
    Option("max-memory", RUN, Size(),
           "What the process may take (2GB, libraries included); above, it ends with exit code 4.",
           unset="what there is", commands=_PAGES),
    Option("progress", RUN, Flag(),
           "Show progress on stderr.", default=True, unset="on", key=False,
           commands=_PAGES),
    Option("quiet", RUN, Flag(),
           "Nothing on stderr but errors.", short="q", commands=_PAGES, key=False),
    Option("verbose", RUN, Count(),
           "-v: timings; -vv: library warnings and tracebacks.", default=0, short="v",
           commands=_PAGES, key=False,
           elsewhere={"inspect": "-v: what is suppressed; -vv: tracebacks.",
                      "init": "-vv: library warnings and tracebacks.",
                      "trend": "-vv: library warnings and tracebacks.",
                      "recalibrate": "-vv: library warnings and tracebacks.",
                      "landscape": "-vv: library warnings and tracebacks."}),
)
# fmt: on

KEYS = {option.key_name: option for option in OPTIONS if option.key_name is not None}
"""Those that a file may set, by its name for them."""

INHERITED = {"fleet": "check"}
"""Command -> the command that it has all options of, but for how its table is looked at."""

LOOKS = ("columns", "sort", "top")

BY_PARAMETER = {option.parameter: option for option in OPTIONS if option.parameter is not None}
