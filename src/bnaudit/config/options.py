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
from bnaudit.config.kinds import (
    Batches,
    Count,
    Flag,
    Kind,
    LayerCount,
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
from bnaudit.config.rule_kinds import FailOn, PerLayer, Rules, Severities, Thresholds
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
        help: a sentence or two for --help; "{formats}" and "{suffixes}" are those of the command.
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
_RUNNING = ("check", "diff", "init", "recalibrate")
_LOADING = ("check", "diff", "recalibrate")
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
           parameter="kwargs", typed_only=True, commands=_LOADING),
    Option("strict", MODEL, Flag(),
           "Whether the weights have to name every tensor of the network.", default=True,
           unset="strict", typed_only=True, commands=_LOADING),
    Option("input", MODEL, Pairs(),
           "Value of an argument of the model that is no data (scale=0.5, flag=true). "
           "Repeatable.", parameter="inputs", typed_only=True, commands=_LOADING),
    Option("entry", MODEL, Kind(metavar="KEY", wanted="an entry's name"),
           "Entry to read of a checkpoint with several networks ('state_dict_ema').",
           unset="the one that fits the network", commands=(*_REPORTING, "recalibrate"), typed_only=True,
           elsewhere={"inspect": "Entry to read of a checkpoint with several networks "
                                 "('state_dict_ema'). Default: all."}),
    Option("verify", MODEL, Flag(),
           "Compare an ONNX model's outputs as converted with onnxruntime's (or onnx's own)."),
    Option("data", DATA, Texts(metavar="PATH", wanted="a path, or a list of paths", files=True),
           "Sample batches: .npz keyed by input name, .npy or .pt tensors, or file.py:function"
           " that yields batches. Repeat to join rows or add inputs (NAME=PATH). Default: the "
           "batch inside a .pt2 file, else a synthetic one.", short="d", commands=_RUNNING,
           relocate=relocate.data,
           elsewhere={"recalibrate": "The rows to compute statistics of, as for check; all of them are used.",
                      "init": "Sample batch, as for check; some of its rows are used. Default: a "
                              "synthetic batch."}),
    Option("labels", DATA, Kind(metavar="KEY|PATH", wanted="a key of the data, or a path", files=True),
           "Labels: a key in --data, or a file.", unset="the key 'labels', if there",
           commands=_RUNNING, relocate=relocate.labels),
    Option("loss", DATA, Kind(metavar="NAME", wanted="a name, or file.py:function"),
           "Loss: cross_entropy, nll, mse, bce (with logits), noise_mse (needs no labels), "
           "auto (by the labels there are), or file.py:function(output, labels).",
           default="auto", commands=_RUNNING, relocate=relocate.function,
           elsewhere={"init": "As for check."}),
    Option("batches", DATA, Batches(),
           "Batches to run. auto: 8 to 64, until the interval of every layer's median |g|/|G| is within 5 %, "
           "or the data end.", unset="auto, synthetic 4",
           commands=_LOADING,
           elsewhere={"recalibrate": "Batches to run; all where it is left out."}),
    Option("batch-size", DATA, Whole(1),
           "Rows in each.", unset="up to 32, synthetic 8", commands=_RUNNING,
           elsewhere={"init": "Rows of the batch.", "recalibrate": "Rows in each, at most."}),
    Option("input-shape", DATA, Shapes(),
           "Shape of a synthetic input, batch first. Repeat for several inputs.",
           parameter="input_shapes", commands=("check", "diff", "init"), key="input-shapes"),
    Option("metrics", MEASURE, Words(tuple(METRICS), "metric"),
           f"What to measure, or all. Cost in forward passes F: {_COSTS}.", default=DEFAULT,
           short="m"),
    Option("layers", MEASURE, Kind(metavar="GLOB", wanted="a pattern"),
           "Measure only layers whose name matches ('layer4.*').", commands=(*_ALL, "recalibrate"),
           elsewhere={"inspect": "Report only layers whose name matches ('layer4.*').",
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
           commands=(*_ALL, "recalibrate", "rules")),
    Option("output", OUTPUT, Outputs(),
           "Also write a file, in the format that its suffix says ({suffixes}), or "
           "FORMAT=FILE. Repeatable.", parameter="outputs", short="o", commands=(*_ALL, "rules"),
           relocate=relocate.outputs),
    # -o is the model that this command writes
    Option("report", OUTPUT, Outputs(),
           "Also write the report, in the format that its suffix says ({suffixes}), or "
           "FORMAT=FILE. Repeatable.", parameter="reports", commands=("recalibrate",), typed_only=True),
    Option("channels", OUTPUT, Flag(),
           "Add per-channel arrays to the JSON.", commands=(*_REPORTING, "recalibrate")),
    # how one person wants to see a run is no matter of the project's, as the last three
    Option("color", OUTPUT, Word(("auto", "always", "never")),
           "Whether the table has colour.", default="auto", commands=(*_JUDGING, "recalibrate"), key=False),
    Option("device", RUN, Kind(wanted="a device"),
           "Device: cpu, cuda, cuda:N or mps.", default="cpu", commands=_RUNNING, coerce=str),
    Option("dtype", RUN, Word(DTYPES),
           "Precision of the run.", unset="the model's own",
           coerce=lambda value: str(value).removeprefix("torch."), commands=_LOADING),
    Option("seed", RUN, Whole(0, 2**32 - 1),
           "Of everything random: same seed, same report.", default=0, unset="0",
           commands=_RUNNING),
    Option("memory", RUN, Size(),
           "What the second-order sweep may hold in tangents (500MB, 2GB); less takes longer.",
           unset="by what a training step takes, and what is free"),
    Option("timeout", RUN, Whole(1, 10**6),
           "Seconds after which the command ends, with exit code 4.", unset="none",
           commands=(*_ALL, "init", "recalibrate")),
    Option("max-memory", RUN, Size(),
           "What the process may take (2GB, libraries included); above, it ends with exit code 4.",
           unset="what there is", commands=(*_ALL, "init", "recalibrate")),
    Option("progress", RUN, Flag(),
           "Show progress on stderr.", default=True, unset="on", commands=(*_ALL, "recalibrate"), key=False),
    Option("quiet", RUN, Flag(),
           "Nothing on stderr but errors.", short="q", commands=(*_ALL, "recalibrate"), key=False),
    Option("verbose", RUN, Count(),
           "-v: timings; -vv: library warnings and tracebacks.", default=0, short="v",
           commands=(*_ALL, "recalibrate"), key=False,
           elsewhere={"inspect": "-v: what is suppressed; -vv: tracebacks.",
                      "init": "-vv: library warnings and tracebacks.",
                      "recalibrate": "-vv: library warnings and tracebacks."}),
)
# fmt: on

KEYS = {option.key_name: option for option in OPTIONS if option.key_name is not None}
"""Those that a file may set, by its name for them."""

BY_PARAMETER = {option.parameter: option for option in OPTIONS if option.parameter is not None}
