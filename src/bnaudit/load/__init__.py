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
    from bnaudit.load.pickles.objects import Opaque

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
        entry: of the file of weights, where it holds several networks.
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
    for name, value in (
        ("weights", given.weights),
        ("an entry of weights", given.entry),
        ("arguments of a factory", given.kwargs),
    ):
        if value:
            raise UsageError(
                f"{name} for a model that has its own",
                hint="--weights, --entry and --arg go with package.module:factory or file.py:factory",
            )
    if not isinstance(model, (str, Path)):
        from bnaudit.load.live import load_live

        return load_live(model)
    path = Path(model)
    kind = sniff(path)
    if kind in _WEIGHTS_ALONE:
        raise _weights_alone(path, kind)
    require_kind(path, kind, _LOADERS)
    module, function = _LOADERS[kind]
    extra = {"trust": given.trust} if kind is FileKind.EXPORTED else {}
    loaded: LoadedModel = getattr(import_module(module), function)(path, **extra)
    return replace(loaded, path=path)


def _weights_alone(path: Path, kind: FileKind) -> InputError:
    """A file without a network that can be run, and the command that runs its weights."""
    file = shlex.quote(str(path))
    pickled = _pickled(path) if kind is FileKind.CHECKPOINT else None
    if pickled is not None:
        known = pickled.home and not pickled.home.startswith(("torch.", "__main__"))
        code = f"{pickled.home}:{pickled.kind}" if known else "package.module:factory"
        return InputError(
            f"{path}: is a pickled module of class {pickled.home}.{pickled.kind}: bnaudit reads pickles "
            "as data and runs none",
            hint=f"name the code that makes it: bnaudit check {code} --weights {file}; or save "
            f"torch.jit.script(net.eval()); `bnaudit inspect {file}` judges what it stores",
        )
    return InputError(
        f"{path}: is a {kind.value} file: it holds weights, but no network to run them in",
        hint="name the code that makes the network: bnaudit check package.module:factory "
        f"--weights {file}; `bnaudit inspect {file}` reads what the file says by itself",
    )


def _pickled(path: Path) -> Opaque | None:
    """The module that was pickled as a whole; None for bare weights."""
    from bnaudit.load.weights.checkpoint import open_weights

    try:
        return open_weights(path).module
    except InputError:  # that it is damaged is not the point here
        return None
