"""Files of torch.export (.pt2): one flat graph of operators, with the author's names beside it.

Loading one can run code out of it (pickled example inputs and weights, symbolic expressions that are
evaluated), so nothing of it is read before the caller has said that the file is trusted.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import warnings
import zipfile
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree

from bnaudit.errors import InputError
from bnaudit.files import exists, opened
from bnaudit.load.archive import require_intact
from bnaudit.load.exported_graph import (
    adapt,
    assertions_removed,
    batchnorm_calls,
    branches_inlined,
)
from bnaudit.load.exported_signature import read_signature
from bnaudit.load.model import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REFUSED_HINT = (
    "pass --trust (from Python trust=True) if you know who wrote it; without, ONNX and "
    "TorchScript files of the same network are audited"
)
_MODELS = "models/"
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)")
_ARCHIVES = "torch.export.pt2_archive._package"


def load_exported(path: Path, *, trust: bool = False) -> LoadedModel:
    """Loads a file that `torch.export.save` wrote, on the CPU.

    Args:
        path: the file; its kind has been established by `sniff`.
        trust: whether code out of the file may run while it is loaded.

    Raises:
        InputError: it is not trusted, damaged, written by a PyTorch that this one cannot read, or
            holds several programs.
    """
    if not trust:
        raise InputError(
            f"{path}: is a torch.export file, and loading one can run code out of it",
            hint=_REFUSED_HINT,
        )
    require_intact(path)
    program = _load(path)
    try:
        module = branches_inlined(assertions_removed(program.module()))
        signature = read_signature(program)
        return LoadedModel(
            module=module,
            format="exported",
            inputs=signature.inputs,
            arguments=signature.arguments,
            arrange=signature.arrange,
            example=signature.example,
            static_batch=signature.static_batch,
            batchnorms=batchnorm_calls(module),
            producer=_producer(path),
            facts=_facts(program),
            adapt=adapt,
            reload=partial(load_exported, path, trust=True),
        )
    except (AttributeError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise _unreadable(path, error) from error


def _load(path: Path) -> Any:
    with _quiet(), _no_folder_left(), opened(path) as file:
        try:
            name = _only_program(path)
            if name is None:
                return torch.export.load(file)
            # Not torch.export.load, which keeps to itself what went wrong. The file is opened here:
            # given a path, it complains of any extension but its own.
            return import_module(_ARCHIVES).load_pt2(file).exported_programs[name]
        except InputError:
            raise
        except Exception as error:  # schema, pickles and zip files fail in ways of their own
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next(iter(lines), "")[:160]
    missing = _OPERATOR.search(str(error))
    if missing and "eserializ" in text:
        return InputError(
            f"{path}: needs the operator {missing[1]}::{missing[2]}, which cannot be found here",
            hint="operators of extensions are no part of the file: export the network without them, or "
            "audit it with package.module:factory, which can import the extension",
        )
    if isinstance(error, ModuleNotFoundError):
        hint = "the file refers to a package that has to be installed here"
    elif "version" in text.lower():
        hint = "torch.export files are read by the PyTorch that wrote them: install that version"
    else:
        hint = (
            "damaged or cut off? written by another version of PyTorch, or with custom operators?"
        )
    return InputError(
        f"{path}: cannot be loaded as a torch.export file ({type(error).__name__}: {text})",
        hint=hint,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.export writes whole tracebacks to its log before it raises them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def _no_folder_left() -> Iterator[None]:
    """PyTorch makes a folder for its compiler's cache as soon as that is imported, compiled or not."""
    own = os.environ.get("TORCHINDUCTOR_CACHE_DIR")

    def folders() -> set[Path]:
        made = set[Path]()
        with suppress(OSError):  # no folder for such files
            made.update(Path(tempfile.gettempdir()).glob("torchinductor_*"))
        return made | {Path(own)} if own and exists(own) else made

    before = folders()
    try:
        yield
    finally:
        for folder in folders() - before:
            with suppress(OSError):  # something is in it
                folder.rmdir()


def _only_program(path: Path) -> str | None:
    """The name of the program inside; None in files of PyTorch before 2.8, which give it none.

    Raises:
        InputError: there are several.
    """
    with zipfile.ZipFile(path) as archive:
        inner = [name.partition("/")[2] for name in archive.namelist()]
    found = [n.removeprefix(_MODELS).removesuffix(".json") for n in inner if n.startswith(_MODELS)]
    if len(found) > 1 and "model" not in found:
        raise InputError(
            f"{path}: holds {len(found)} programs ({', '.join(found[:5])}), and none called 'model'",
            hint="save each in a file of its own: torch.export.save(program, path)",
        )
    return "model" if "model" in found else next(iter(found), None)


def _producer(path: Path) -> str | None:
    """'pytorch 2.13.0', from the serialized program; None where it does not say."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if f"/{_MODELS}" in n and n.endswith(".json"))
            version = json.loads(archive.read(name)).get("torch_version")
    except (OSError, StopIteration, ValueError, AttributeError, zipfile.BadZipFile):
        return None
    return f"pytorch {version}" if isinstance(version, str) and "<" not in version else None


def _facts(program: Any) -> Mapping[str, str]:
    facts = {"dialect": str(getattr(program, "dialect", ""))}
    constraints = getattr(program, "range_constraints", {})
    facts["dynamic dimensions"] = ", ".join(f"{k} in {v}" for k, v in constraints.items())
    leaves = _pytree.tree_leaves(getattr(program, "example_inputs", None))
    facts["example inputs"] = str(sum(isinstance(leaf, torch.Tensor) for leaf in leaves))
    return {name: value for name, value in facts.items() if value}
