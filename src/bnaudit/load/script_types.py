"""The types of TorchScript's arguments: what data gives, what `--input` gives, what cannot be given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnaudit.load.arguments import number_tensor

if TYPE_CHECKING:
    from collections.abc import Callable


def kind(type_: Any) -> str:
    """TorchScript's name of a type's kind ("TensorType")."""
    return str(type_.kind())


def is_tensor(type_: Any) -> bool:
    """Tensor, or Optional[Tensor]."""
    return kind(_bare(type_)) == "TensorType"


def tensors_in(type_: Any) -> int | None:
    """How many tensors an argument of this type holds; 0 for any number, None if it is no group."""
    bare = _bare(type_)
    if kind(bare) == "TupleType" and all(is_tensor(e) for e in bare.elements()):
        return len(bare.elements())
    if kind(bare) == "ListType" and is_tensor(bare.getElementType()):
        return 0
    if kind(bare) == "DictType" and is_tensor(bare.getValueType()):
        return 0 if kind(bare.getKeyType()) == "StringType" else None
    return None


def is_tuple(type_: Any) -> bool:
    """Tuple, or Optional[Tuple]."""
    return kind(_bare(type_)) == "TupleType"


def _bare(type_: Any) -> Any:
    return type_.getElementType() if kind(type_) == "OptionalType" else type_


def takes_text(type_: Any) -> bool:
    """str, or Optional[str]."""
    return kind(type_) == "StringType"


def convertible(type_: Any) -> bool:
    """Whether a value for this type can be typed."""
    found = kind(type_)
    if found in _SIMPLE:
        return True
    if found in {"OptionalType", "ListType"}:
        return convertible(type_.getElementType())
    if found == "DictType":
        return convertible(type_.getKeyType()) and convertible(type_.getValueType())
    if found == "UnionType":
        return all(convertible(t) for t in type_.containedTypes())
    return found == "TupleType" and all(convertible(t) for t in type_.elements())


def convert(value: Any, type_: Any) -> Any:
    """A value as this type.

    Raises:
        ValueError: it is none.
    """
    found = kind(type_)
    if found in _SIMPLE:
        return _SIMPLE[found](value)
    if found == "OptionalType":
        return None if value is None else convert(value, type_.getElementType())
    if found == "ListType" and isinstance(value, (list, tuple)):
        return [convert(v, type_.getElementType()) for v in value]
    if found == "DictType" and isinstance(value, dict):
        key, held = type_.getKeyType(), type_.getValueType()
        return {convert(k, key): convert(v, held) for k, v in value.items()}
    if found == "UnionType":
        return _first_that_fits(value, type_.containedTypes())
    if found == "TupleType" and isinstance(value, (list, tuple)):
        return tuple(convert(v, t) for v, t in zip(value, type_.elements(), strict=True))
    raise ValueError(f"{value!r} is no {type_}")


def _first_that_fits(value: Any, types: Any) -> Any:
    for type_ in types:
        try:
            return convert(value, type_)
        except ValueError:
            continue
    raise ValueError(f"{value!r} fits none")


def _only(*classes: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) not in classes:
            raise ValueError(f"{value!r}")
        return value

    return check


def _float(value: Any) -> float:
    return float(_only(int, float)(value))


def _text(value: Any) -> str:
    return str(_only(str)(value))


def _device(value: Any) -> str:
    try:
        return str(torch.device(_text(value)))
    except RuntimeError as error:
        raise ValueError(str(value)) from error


def _tensor(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value
    return number_tensor(value)


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "IntType": _only(int),
    "FloatType": _float,
    "NumberType": _only(int, float, bool),
    "BoolType": _only(bool),
    "StringType": _text,
    "NoneType": _only(type(None)),
    "DeviceObjType": _device,
    "TensorType": _tensor,
    "AnyType": lambda value: value,
}
