"""Model files, factories and live modules into one shape: `LoadedModel`.

A new format is one file here and one line in `_LOADERS` (and its content test in `sniff`).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError, UsageError
from bnaudit.load.sniff import FileKind, require_kind, sniff

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from bnaudit.load.model import LoadedModel

# Kind -> (module, function), imported when a file needs it: onnx alone costs a third of a second.
_LOADERS: dict[FileKind, tuple[str, str]] = {
    FileKind.ONNX: ("bnaudit.load.onnx", "load_onnx"),
    FileKind.TORCHSCRIPT: ("bnaudit.load.torchscript", "load_torchscript"),
    FileKind.EXPORTED: ("bnaudit.load.exported", "load_exported"),
}

_WEIGHTS_ALONE = frozenset({FileKind.CHECKPOINT, FileKind.SAFETENSORS})


@dataclass(frozen=True, slots=True)
class Loading:
    """What may be said of a model besides its name.

    Attributes:
        trust: whether code that a .pt2 file brings along may run.
        weights: a file with the weights of a factory's network.
        kwargs: what a factory is called with.
        strict: whether weights have to name every parameter of the network, and nothing else.
        seed: of the weights that a factory draws.
        entry: of a checkpoint with several networks, the keys of the one to load, dotted.
    """

    trust: bool = False
    weights: Path | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = True
    seed: int = 0
    entry: str | None = None


def load(model: str | Path | nn.Module, loading: Loading | None = None) -> LoadedModel:
    """Loads a model file by its content, calls a factory, or wraps a live module.

    Args:
        model: path of an ONNX, TorchScript or torch.export file; `package.module:factory` or
            `file.py:factory`; or a `torch.nn.Module`.
        loading: trust, weights and arguments.

    Raises:
        InputError: the file cannot be read, is of a kind that cannot be run, or the factory fails.
        UsageError: weights or arguments for a model that takes none.
    """
    from bnaudit.load.reference import factory_reference

    given = loading or Loading()
    reference = factory_reference(model)
    if reference is not None:
        from bnaudit.load.factory import load_factory

        return load_factory(
            reference,
            given.weights,
            given.kwargs,
            strict=given.strict,
            seed=given.seed,
            entry=given.entry,
        )
    _require_nothing_of_factories(given)
    if not isinstance(model, (str, Path)):
        from bnaudit.load.live import load_live

        return load_live(model)
    path = Path(model)
    kind = sniff(path)
    if kind in _WEIGHTS_ALONE:
        file = shlex.quote(str(path))
        raise InputError(
            f"{path}: is a {kind.value} file: it holds weights, but no network to run them in",
            hint="name the code that makes the network: bnaudit check package.module:factory "
            f"--weights {file}; `bnaudit inspect {file}` reads what the file says by itself",
        )
    require_kind(path, kind, _LOADERS)
    module, function = _LOADERS[kind]
    extra = {"trust": given.trust} if kind is FileKind.EXPORTED else {}
    loaded: LoadedModel = getattr(import_module(module), function)(path, **extra)
    return replace(loaded, path=path)


def _require_nothing_of_factories(given: Loading) -> None:
    for name, value in (
        ("weights", given.weights),
        ("arguments of a factory", given.kwargs),
        ("an entry of weights", given.entry),
    ):
        if value:
            raise UsageError(
                f"{name} for a model that has its own",
                hint="--weights, --entry and --arg go with package.module:factory or file.py:factory",
            )
