"""Functions from the user's own files: `file.py:function`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.errors import UsageError
from bnaudit.files import is_file, referred_to
from bnaudit.user_data import UserData, seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def user_object(text: str) -> Callable[..., Any] | None:
    """The function that `file.py:function` names, or None for any other text.

    The file is executed: it is the user's own, named on the command line.

    Raises:
        UsageError: the file or the function is not there, or the file fails to import.
    """
    file, separator, name = text.rpartition(":")
    if not separator or not file.endswith(".py"):
        return None
    path = Path(file)
    if not is_file(path):
        raise UsageError(f"{file}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, referred_to(path))
    if spec is None or spec.loader is None:
        raise UsageError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(
        0, str(path.parent.resolve())
    )  # as for `python file.py`: it may import siblings
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{file}: fails to import ({type(error).__name__}: {error})") from error
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{file}: has no function {name!r}")
    result: Callable[..., Any] = function
    return result


def user_data(texts: Sequence[str], seed: int) -> Any:
    """What `--data` names: paths, or one function, whose file is imported under the seed.

    Raises:
        UsageError: the file or function is not there, fails to import, or stands beside other data.
    """
    if not any(".py:" in text for text in texts):
        return list(texts) or None
    with seeded(seed):
        functions = [(text, function) for text in texts if (function := user_object(text))]
    if not functions:
        return list(texts)
    if len(texts) > 1:
        raise UsageError(
            f"--data {functions[0][0]}: a function gives all batches; it cannot be joined with other data",
            hint="read the files in the function",
        )
    return UserData(*functions[0])
