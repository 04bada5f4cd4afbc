"""The keys of a configuration: a new option of `check` is one line here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.config.kinds import Flag, Kind, Shapes, Text, Texts, Whole, Word, Words
from bnaudit.config.rule_kinds import SEVERITIES, PerLayer, Rules, Severities, Thresholds
from bnaudit.metrics import DEFAULT, METRICS
from bnaudit.options import DTYPES, MODES
from bnaudit.render.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: in the file.
        parameter: of the command line that has the same meaning, None where there is no option.
        kind: what it takes.
        meaning: one clause for editors and `bnaudit config`.
        default: in the form that the file has; None where the audit itself decides.
        relocate: makes the value's paths, relative to the file, relative to the working directory.
    """

    name: str
    parameter: str | None
    kind: Kind
    meaning: str
    default: Any = None
    relocate: Callable[[Any, str], Any] | None = None


def _path(path: str, folder: str) -> str:
    return path if not folder else os.path.normpath(os.path.join(folder, path))  # noqa: PTH118


def _function(text: str, folder: str) -> str:
    """`loss.py:focal` names a file; `cross_entropy` does not."""
    return _path(text, folder) if text.rpartition(":")[0].endswith(".py") else text


def _data(texts: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """PATH, file.py:function, or NAME=PATH, where the file alone tells NAME=PATH from a path."""
    found = []
    for text in texts:
        name, equals, rest = text.partition("=")
        named = equals and not Path(_path(text, folder)).exists()
        found.append(f"{name}={_path(rest, folder)}" if named else _path(text, folder))
    return tuple(found)


def _labels(text: str, folder: str) -> str:
    """A key of the data, unless there is such a file."""
    path = _path(text, folder)
    return path if Path(path).is_file() or "/" in text else text


def _outputs(texts: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """FILE, or FORMAT=FILE."""
    found = []
    for text in texts:
        name, equals, rest = text.partition("=")
        named = equals and name in FORMATS
        found.append(f"{name}={_path(rest, folder)}" if named else _path(text, folder))
    return tuple(found)


_FORMATS = (*FORMATS, "none")
_FAIL_ON = (*SEVERITIES, "never")

KEYS: tuple[Key, ...] = (
    Key("data", "data", Texts("a path, or a list of paths"), "sample batches", (), _data),
    Key("labels", "labels", Text(), "a key in the data, or a file", None, _labels),
    Key("loss", "loss", Text(), "name of the loss, or file.py:function", "auto", _function),
    Key("batches", "batches", Whole(1), "sample batches to run"),
    Key("batch-size", "batch_size", Whole(1), "rows in each"),
    Key("input-shapes", "input_shapes", Shapes(), "shape of each synthetic input", {}),
    Key("device", "device", Text(), "cpu, cuda, cuda:N or mps", "cpu"),
    Key("dtype", "dtype", Word(DTYPES), "precision of the run"),
    Key("seed", "seed", Whole(0, 2**32 - 1), "of everything random", 0),
    Key("mode", "mode", Word(MODES), "normalise with batch or running statistics", "batch"),
    Key(
        "verify-gradients",
        "verify_gradients",
        Whole(0, words=("all",)),
        "layers to check by finite differences",
        0,
    ),
    Key(
        "verify-second-order",
        "verify_second_order",
        Whole(0, words=("all",)),
        "layers to check the second-order sweep at",
        0,
    ),
    Key("memory", "memory", Text(), "what the second-order sweep may take (500MB)"),
    Key("verify", "verify", Flag(), "compare a converted model with the file's runtime", False),
    Key("metrics", "metrics", Words(tuple(METRICS)), "what to measure", DEFAULT),
    Key("layers", "layers", Text(), "pattern of the layers to measure"),
    Key("twins", "twins", Text(), "layer to replace alone by its twins"),
    Key("channels", "channels", Flag(), "per-channel arrays in the JSON", False),
    Key("format", "stdout_format", Word(_FORMATS), "what goes to stdout", "table"),
    Key("output", "outputs", Texts("a file, or a list of files"), "reports to write", (), _outputs),
    Key("fail-on", "fail_on", Word(_FAIL_ON), "severity that makes the exit code 1", "error"),
    Key("allow-no-bn", "allow_no_bn", Flag(), "a model without BatchNorm passes", False),
    Key("baseline", "baseline", Text(), "earlier report whose findings do not fail", None, _path),
    Key("select", "select", Rules(), "the only rules to run; none: all", ()),
    Key("ignore", "ignore", Rules(), "rules whose findings are suppressed", ()),
    Key("severity", None, Severities(), "rule: error, warning or info", {}),
    Key("thresholds", None, Thresholds(), "rule: {threshold: value}", {}),
    Key("per-layer", None, PerLayer(), "layer pattern: {ignore: [rules]}", {}),
)

BY_NAME = {key.name: key for key in KEYS}
