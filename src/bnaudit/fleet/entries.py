"""What a fleet consists of: globs, folders, lists in YAML or CSV, checkpoints times one factory."""

from __future__ import annotations

import csv
import glob
import io
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.config import relocate
from bnaudit.config.kinds import Context, Flag, Pairs, Shapes, Texts, Whole, Words, is_count
from bnaudit.config.options import OPTIONS, OUTPUT
from bnaudit.config.tree import Node, Source, did_you_mean
from bnaudit.errors import BnauditError, ConfigError, UsageError
from bnaudit.files import content, is_file
from bnaudit.fleet.contents import entry_of
from bnaudit.fleet.engine import Task
from bnaudit.load.reference import factory_reference
from bnaudit.load.sniff import FileKind, sniff
from bnaudit.values import Typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnaudit.config.options import Option

LISTS = (".yaml", ".yml", ".csv")
_LARGEST = 2**28
_MOST_NODES = 2_000_000
_MODELS = (FileKind.ONNX, FileKind.TORCHSCRIPT, FileKind.EXPORTED)
_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx", ".npz", ".h5", ".keras")
_SUFFIXES = (".onnx", ".pt", ".pth", ".pt2", ".ts", ".torchscript", ".jit", ".zip")
_NOT = frozenset(("trust", "progress", "quiet", "verbose", "config", "no-config"))
"""What a list cannot say: `trust` gives leave, which is typed; the others are of the run as a whole."""

KEYS: dict[str, Option] = {
    name: option
    for option in OPTIONS
    if "check" in option.commands
    and option.parameter is not None
    and option.heading != OUTPUT
    and option.name not in _NOT
    for name in {option.name, option.key_name or option.name}
}
"""What a row of a list may set, by its name there."""

_RELOCATED = {"weights": relocate.path, "baseline": relocate.path}


def read_entries(sources: Sequence[str], given: Mapping[str, Any]) -> tuple[list[Task], list[str]]:
    """The tasks, in the order in which they are named, and what is to be told of them.

    Args:
        sources: as typed.
        given: the command's options, of which `weights` may name several files.

    Raises:
        UsageError, ConfigError: a list has no meaning, or nothing is found.
    """
    tasks: dict[str, Task] = {}
    notes: list[str] = []
    twice = 0
    for model, own in _all(sources, given, notes):
        task = Task(entry_of(model, own), model, own, _runs_code(model, {**given, **own}))
        twice += task.entry in tasks
        tasks.setdefault(task.entry, task)
    if twice:
        notes.append(f"{twice} models are named more than once with the same options: audited once")
    if not tasks:
        raise UsageError("no model is named", hint="`bnaudit fleet --help` says how to name models")
    return list(tasks.values()), notes


def _all(
    sources: Sequence[str], given: Mapping[str, Any], notes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for source in sources:
        path = Path(source)
        if path.suffix.lower() in LISTS and not _magic(source):
            for row in _listed(path):
                yield from _expanded(row.pop("model"), row, given, notes)
        else:
            yield from _expanded(source, {}, given, notes)


def _expanded(
    model: str, own: dict[str, Any], given: Mapping[str, Any], notes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row for each model that it names, times each file of weights."""
    weights = own.get("weights", given.get("weights"))
    several = weights is not None and (_magic(weights) or Path(weights).is_dir())
    for name in _models(model, notes):
        if not several:
            yield name, own
            continue
        for file in _weights(str(weights), notes):
            yield name, {**own, "weights": file}


def _models(text: str, notes: list[str]) -> list[str]:
    if factory_reference(text) is not None or is_file(text):
        return [text]
    if Path(text).is_dir():
        return _in_folder(text, _SUFFIXES, notes, models=True)
    return _matching(text) if _magic(text) else [text]


def _weights(text: str, notes: list[str]) -> list[str]:
    return (
        _in_folder(text, _WEIGHTS, notes, models=False) if Path(text).is_dir() else _matching(text)
    )


def _magic(text: str) -> bool:
    return glob.has_magic(text) and not os.path.exists(text)  # noqa: PTH110


def _matching(pattern: str) -> list[str]:
    found = sorted(name for name in glob.iglob(pattern, recursive=True) if is_file(name))  # noqa: PTH207
    if not found:
        raise UsageError(
            f"{pattern}: no file matches", hint="quoted patterns are matched by bnaudit"
        )
    return found


def _in_folder(
    folder: str, suffixes: tuple[str, ...], notes: list[str], *, models: bool
) -> list[str]:
    """The model files below a folder, told by suffix and content; what is left out is told."""
    found, left = [], 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(place, name)  # noqa: PTH118
            if not name.lower().endswith(suffixes):
                continue
            if models and not _loads(path):
                left += 1
                continue
            found.append(path)
    if left:
        notes.append(
            f"{folder}: {left} files that hold weights or no model are left out; weights need "
            "package.module:factory --weights"
        )
    if not found:
        raise UsageError(f"{folder}: no model file in this folder", hint="name files, or a pattern")
    return found


def _loads(path: str) -> bool:
    try:
        return sniff(Path(path)) in _MODELS
    except (BnauditError, OSError):
        return False


def _runs_code(model: str, given: Mapping[str, Any]) -> bool:
    texts = [*given.get("data", ()), given.get("loss"), given.get("labels")]
    user = any(str(text).rpartition(":")[0].endswith(".py") for text in texts if text)
    return user or bool(given.get("trust")) or factory_reference(model) is not None


def _listed(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a list: options by parameter, and "model"; paths start from the list's folder.

    Raises:
        ConfigError: it cannot be read, or a row has no meaning.
    """
    source = Source(str(path), os.path.dirname(path))  # noqa: PTH120
    try:
        text = content(path, _LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(
            f"{path}: cannot be read ({reason})", hint="a list is YAML or CSV"
        ) from error
    nodes = _csv(text, source) if path.suffix.lower() == ".csv" else _yaml(text, source)
    for node in nodes:
        yield _row(node, source)


def _row(node: Node, source: Source) -> dict[str, Any]:
    if isinstance(node.value, str):
        return {"model": _located(node.value, source.folder)}
    if not isinstance(node.value, dict):
        source.refuse(node.line, "a row has to be a model, or a mapping with the key 'model'")
    row: dict[str, Any] = {}
    for name, value in node.value.items():
        if name == "model":
            if not isinstance(value.value, str) or not value.value:
                source.refuse(value.line, "model has to be a file, a pattern or a factory")
            row["model"] = _located(value.value, source.folder)
            continue
        option = KEYS.get(name)
        if option is None:
            known = [*KEYS, "model"]
            hint = "what gives leave is typed: --trust" if name == "trust" else None
            source.refuse(value.key_line, f"unknown key {name!r}{did_you_mean(name, known)}", hint)
        if value.value is not None:
            row[str(option.parameter)] = _value(option, value, Context(name, source), source.folder)
    if "model" not in row:
        source.refuse(node.line, "a row without a model")
    return row


def _value(option: Option, node: Node, context: Context, folder: str) -> Any:
    """What a row says of an option, in the form that the option itself gives."""
    if isinstance(option.kind, Pairs):
        if not isinstance(node.value, dict):
            context.wrong(node, "a mapping from names to values")
        return {
            name: Typed(item.text if item.text is not None else str(item.value))
            for name, item in node.value.items()
        }
    value = option.kind.read(node, context)
    try:
        option.kind.accept(str(option.parameter), value)
    except UsageError as error:
        context.source.refuse(node.line or node.key_line, error.message, error.hint)
    move = option.relocate or _RELOCATED.get(option.name)
    return value if move is None else move(value, folder)


def _located(model: str, folder: str) -> str:
    """A file, or `file.py:factory`, from the list's folder; `package.module:factory` is from nowhere."""
    if re.fullmatch(r"[\w.]+:[\w.]+", model) and not model.rpartition(":")[0].endswith(".py"):
        return model
    return relocate.path(model, folder)


def _yaml(text: str, source: Source) -> Iterator[Node]:
    from bnaudit.config.yaml_tree import parse_yaml

    tree = parse_yaml(text, source, most=_MOST_NODES)
    if isinstance(tree.value, dict) and set(tree.value) == {"models"}:
        tree = tree.value["models"]
    if not isinstance(tree.value, list):
        source.refuse(
            tree.line, "a list of models has to be a list, or a mapping with the key 'models'"
        )
    yield from tree.value


def _csv(text: str, source: Source) -> Iterator[Node]:
    """A row a line, below a line of names; an empty cell says nothing."""
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if "model" not in names:
            source.refuse(1, "the first line has to name the columns, 'model' among them")
        for cells in reader:
            line = reader.line_num
            if len(cells) > len(names):
                source.refuse(line, f"{len(cells)} cells below {len(names)} names")
            row = {
                name: _cell(name, text.strip(), line)
                for name, text in zip(names, cells, strict=False)
                if text.strip()
            }
            if row:
                yield Node(row, line)
    except csv.Error as error:
        source.refuse(reader.line_num, f"not valid CSV: {error}")
    except ValueError as error:  # quotes of a shell's
        source.refuse(reader.line_num, str(error))


def _cell(name: str, text: str, line: int) -> Node:
    """A text as the value that it would be in YAML; several of an option stand as in a shell."""
    option = KEYS.get(name)
    kind = None if option is None else option.kind
    if isinstance(kind, Pairs):
        pairs = dict(kind.typed(part) for part in shlex.split(text))
        return Node({key: Node(str(value), line, line) for key, value in pairs.items()}, line, line)
    if isinstance(kind, Shapes) and ":" in text:
        shapes = dict(kind.typed(part) for part in shlex.split(text))
        return Node({key: Node(value, line, line) for key, value in shapes.items()}, line, line)
    if isinstance(kind, Texts):
        return Node([Node(part, line, line) for part in shlex.split(text)], line, line)
    if isinstance(kind, Flag) and text.lower() in ("true", "false", "yes", "no", "1", "0"):
        return Node(text.lower() in ("true", "yes", "1"), line, line)
    if isinstance(kind, Whole) and is_count(text):
        return Node(int(text), line, line)
    return Node(text, line, line, None if isinstance(kind, Words) else text)
