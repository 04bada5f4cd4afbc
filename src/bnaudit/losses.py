"""The losses that have a name, and the options that each takes. A new one is one entry here.

No torch in this file: --help, the shell and the configuration read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

LABEL_FREE = "noise_mse"
RETURNED = "returned"
AUTO = "auto"


@dataclass(frozen=True)
class LossEntry:
    """A loss as the user who selects it sees it.

    Attributes:
        summary: labels and output that it is for.
        options: names in `SETTINGS` that it takes.
        computed_by: `module:NAME` of its `Definition`.
    """

    summary: str
    options: tuple[str, ...]
    computed_by: str


_CLASSES = ("ignore_index", "class_weights", "reduction")

LOSSES: dict[str, LossEntry] = {
    "cross_entropy": LossEntry(
        "class indices or class probabilities, for logits",
        ("ignore_index", "label_smoothing", "class_weights", "reduction"),
        "bnaudit.data.losses.cross_entropy:CROSS_ENTROPY",
    ),
    "nll": LossEntry(
        "class indices, for log-probabilities", _CLASSES, "bnaudit.data.losses.cross_entropy:NLL"
    ),
    "focal": LossEntry(
        "class indices or 0 and 1, for logits",
        ("gamma", "alpha", *_CLASSES),
        "bnaudit.data.losses.focal:FOCAL",
    ),
    "bce": LossEntry(
        "0 and 1 (one score, several labels, masks), for logits",
        ("pos_weight", "ignore_index", "label_smoothing", "reduction"),
        "bnaudit.data.losses.bce:BCE",
    ),
    "hinge": LossEntry(
        "class indices, or 0 and 1, or -1 and 1, for scores",
        ("margin", "ignore_index", "reduction"),
        "bnaudit.data.losses.hinge:HINGE",
    ),
    "mse": LossEntry("numbers", ("reduction",), "bnaudit.data.losses.regression:MSE"),
    "l1": LossEntry("numbers", ("reduction",), "bnaudit.data.losses.regression:L1"),
    "huber": LossEntry("numbers", ("delta", "reduction"), "bnaudit.data.losses.regression:HUBER"),
    "ctc": LossEntry(
        "sequences of classes, shorter than the output's",
        ("blank", "zero_infinity", "reduction"),
        "bnaudit.data.losses.ctc:CTC",
    ),
}
"""By name; each is taken of one output and of labels."""

NAMES = (AUTO, *LOSSES, LABEL_FREE, RETURNED)
"""What `--loss` takes besides a function of the user's own."""


@dataclass(frozen=True)
class Setting:
    """An option of losses.

    Attributes:
        wanted: what it takes.
        read: a plain value into what the loss takes; raises ValueError or TypeError.
    """

    wanted: str
    read: Callable[[Any], Any]


def _number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, (bool, str)) or not math.isfinite(number := float(value)):
            raise ValueError
        if not (low < number if above else low <= number) or number > high:
            raise ValueError
        return number

    return read


def _whole(value: Any) -> int:
    if isinstance(value, (bool, str)) or int(value) != value:
        raise ValueError
    return int(value)


def _numbers(value: Any) -> tuple[float, ...]:
    found = tuple(map(_number(0.0), value))
    if isinstance(value, (str, Mapping)) or not sum(found):
        raise ValueError
    return found


def _number_or_numbers(value: Any) -> float | tuple[float, ...]:
    return _number(0.0, above=True)(value) if isinstance(value, (int, float)) else _numbers(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _reduction(value: Any) -> str:
    if value not in {"mean", "sum"}:
        raise ValueError
    return str(value)


SETTINGS: dict[str, Setting] = {
    "ignore_index": Setting("a whole number: the label that is left out", _whole),
    "label_smoothing": Setting("a number from 0 to 1", _number(0.0, 1.0)),
    "class_weights": Setting("a list of numbers, one a class", _numbers),
    "pos_weight": Setting("a number above 0, or a list of them, one an output", _number_or_numbers),
    "reduction": Setting("mean or sum", _reduction),
    "gamma": Setting("a number from 0 on", _number(0.0)),
    "alpha": Setting("a number from 0 to 1", _number(0.0, 1.0)),
    "delta": Setting("a number above 0", _number(0.0, above=True)),
    "margin": Setting("a number above 0", _number(0.0, above=True)),
    "blank": Setting("a whole number: the class that is no symbol", _whole),
    "zero_infinity": Setting("true or false", _switch),
}


def require_name(name: str) -> None:
    """Refuses what is no loss's name.

    Raises:
        UsageError: with the nearest name, and all of them.
    """
    if name in NAMES:
        return
    near = {
        "crossentropy": "cross_entropy",
        "ce": "cross_entropy",
        "mae": "l1",
        "smooth_l1": "huber",
    }
    plain = name.lower().replace("-", "_").removesuffix("_loss").removesuffix("loss")
    close = [near[plain]] if plain in near else get_close_matches(plain, NAMES, 1)
    raise UsageError(
        f"unknown loss {name!r}" + (f", did you mean {close[0]!r}?" if close else ""),
        hint=f"one of: {', '.join(NAMES)}; or file.py:function(output, labels)",
    )


def settings_for(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a named loss, checked.

    Args:
        name: of the loss.
        given: by name, as the user wrote them.

    Raises:
        UsageError: it takes no option of this name, or not this value.
    """
    known = LOSSES[name].options if name in LOSSES else ()
    found = {}
    for option, value in given.items():
        if option not in known:
            raise UsageError(
                f"the loss {name} has no option {option!r}{_meant(option, known)}",
                hint=f"it takes: {', '.join(known) or 'none'}",
            )
        setting = SETTINGS[option]
        try:
            found[option] = setting.read(value.tolist() if hasattr(value, "tolist") else value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"the option {option} of the loss {name} is {value!r}, but has to be {setting.wanted}"
            ) from error
    return found


def _meant(option: str, known: tuple[str, ...]) -> str:
    alias = {"weight": "class_weights", "weights": "class_weights", "smoothing": "label_smoothing"}
    meant = alias.get(option, option)
    close = [meant] if meant in known else get_close_matches(option, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""
