"""Networks that the user's own code makes: `package.module:factory`, with weights from a file.

The code is imported and run, as `python -c "from package.module import factory; factory()"` would.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnaudit.errors import BnauditError, InputError, UsageError
from bnaudit.files import is_file, referred_to
from bnaudit.load.factory_weights import load_weights
from bnaudit.load.live import load_live

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from bnaudit.load.model import LoadedModel
    from bnaudit.load.reference import Reference


_SHOWN = 8
_NO_WEIGHTS = "no weights were given: the network is audited as its factory made it"


def load_factory(
    reference: Reference,
    weights: Path | None,
    kwargs: Mapping[str, Any],
    *,
    strict: bool,
    seed: int,
    entry: str | None = None,
) -> LoadedModel:
    """Imports a factory, makes its network, and loads weights into it.

    Args:
        reference: names a module instance, a class of modules, or a function that returns a module.
        weights: a checkpoint, safetensors, ONNX or TorchScript file; None keeps what the factory made.
        kwargs: what a class or function is called with.
        strict: whether the weights' names have to be those of the network.
        seed: of the weights that the factory draws.
        entry: of the weights, where there are several networks.

    Raises:
        InputError: the code cannot be imported, fails, or makes no module; the weights do not fit.
        UsageError: arguments for something that is not called.
    """
    if entry is not None and weights is None:
        raise UsageError(f"--entry {entry} without --weights", hint="it names a part of that file")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _attribute(_imported(reference), reference)
        torch.manual_seed(seed)  # an import that was done before draws nothing
        module = _made(found, reference, kwargs)
    notes: tuple[str, ...] = (_NO_WEIGHTS,)
    if weights is not None:
        notes = load_weights(module, weights, strict=strict, entry=entry)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise InputError(
                f"{reference.text}: the parameter {name!r} is on the meta device, without values",
                hint="make the network on the CPU, or give all of its weights with --weights",
            )
    loaded = load_live(module)
    return replace(loaded, notes=(*loaded.notes, *notes))


def _imported(reference: Reference) -> ModuleType:
    file = Path(reference.place) if reference.is_file else None
    if file is not None and not is_file(file):
        raise InputError(f"{file}: no such file", hint=f"looked for it to make {reference.text}")
    # As for `python file.py` and `python -m module`: what stands beside it can be imported.
    for folder in (Path(), *([] if file is None else [file.parent])):
        if str(folder.resolve()) not in sys.path:
            sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module(reference.place) if file is None else _from_file(file)
    except (KeyboardInterrupt, BnauditError):
        raise
    except ModuleNotFoundError as error:
        raise _not_found(reference, error) from error
    except BaseException as error:  # whatever the user's code raises, sys.exit included
        hint = "-vv shows where; import it in Python to try"
        if file is not None and "relative import" in str(error):
            hint = "it is part of a package: name it package.module:factory"
        raise InputError(
            f"{reference.place}: fails to import ({_said(error)})", hint=hint
        ) from error


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, referred_to(path))
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Classes look their own module up by name (dataclasses, pickles).
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _not_found(reference: Reference, error: ModuleNotFoundError) -> InputError:
    missing = error.name or ""
    if not reference.is_file and f"{reference.place}.".startswith(f"{missing}."):
        return InputError(
            f"{reference.text}: no Python module {missing!r} is installed or in this folder",
            hint="run bnaudit in the folder of your package, or write path/to/file.py:factory; a "
            "model file of this name does not exist either",
        )
    return InputError(
        f"{reference.place}: fails to import (no module {missing!r})",
        hint="install it into the environment that bnaudit runs in",
    )


def _attribute(module: ModuleType, reference: Reference) -> Any:
    value: Any = module
    for part in reference.name.split("."):
        if not hasattr(value, part):
            none = "it defines no class or function that makes a module"
            raise InputError(
                f"{reference.place}: has no {reference.name!r}",
                hint=_near(part, value) + (_candidates(module) or none),
            )
        value = getattr(value, part)
    return value


def _near(name: str, value: Any) -> str:
    close = get_close_matches(name, [n for n in dir(value) if not n.startswith("_")], 1)
    return f"did you mean {close[0]!r}? " if close else ""


def _candidates(module: ModuleType) -> str:
    """What of this module's own could be meant: modules, their classes, and functions."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, nn.Module)
            or (
                (inspect.isclass(value) and issubclass(value, nn.Module))
                or inspect.isfunction(value)
            )
        )
        and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
    return f"it has: {', '.join(own[:_SHOWN])}{more}" if own else ""


def _made(found: Any, reference: Reference, kwargs: Mapping[str, Any]) -> nn.Module:
    if isinstance(found, nn.Module):
        if kwargs:
            raise UsageError(
                f"{reference.text}: is a module already, and takes no arguments",
                hint="leave --arg out, or name the class or function that makes it",
            )
        return found
    if not callable(found):
        raise InputError(
            f"{reference.text}: is neither a module nor something that makes one, but of type "
            f"{type(found).__name__}",
            hint="name a torch.nn.Module, a class of modules, or a function that returns one",
        )
    made = _called(found, reference, kwargs)
    if isinstance(made, nn.Module):
        return made
    raise InputError(
        f"{reference.text}: returned a {type(made).__name__}, not a torch.nn.Module",
        hint="of an exported program return program.module(); of several things, the network alone",
    )


def _called(found: Any, reference: Reference, kwargs: Mapping[str, Any]) -> Any:
    try:
        inspect.signature(found).bind(**kwargs)
    except TypeError as error:
        takes = str(inspect.signature(found)).partition(" -> ")[0]
        raise UsageError(
            f"{reference.text}: cannot be called with these arguments ({error})",
            hint=f"it takes {takes}; give them with --arg NAME=VALUE",
        ) from error
    except ValueError:  # builtins have no signature
        pass
    try:
        return found(**kwargs)
    except (KeyboardInterrupt, BnauditError):
        raise
    except BaseException as error:
        raise InputError(
            f"{reference.text}: fails ({_said(error)})",
            hint="-vv shows where; call it in Python to try",
        ) from error


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
