"""The few calls in a checkpoint that mean data: tensors, parameters and plain containers.

Each is re-made here from its arguments; every other call is recorded as an `Opaque`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.objects import (
    SIZES,
    STORAGES,
    UNINITIALISED,
    DamagedError,
    Global,
    Opaque,
    Storage,
    StoredTensor,
    key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_DIMS = 64
_MAX_SIZE = 1 << 62


def call(function: Any, args: Any) -> Any:
    """What `function(*args)` would give, for the calls that are known to build data."""
    if not isinstance(args, tuple):
        raise DamagedError("it calls something without arguments")
    known = _CALLS.get((function.module, function.name)) if isinstance(function, Global) else None
    return Opaque(function, args) if known is None else known(args)


def new(cls: Any, args: Any) -> Any:
    """An object of a class before its attributes are set."""
    if isinstance(cls, Global) and (cls.module, cls.name) in _MAPPINGS:
        return {}
    return Opaque(cls, args)


def dtype_of(value: Any) -> str:
    """The name of a torch dtype, or of the elements of a storage class.

    Raises:
        DamagedError: there is no such type.
    """
    if isinstance(value, Global):
        aliases = {"float": "float32", "double": "float64", "half": "float16", "long": "int64"}
        name = STORAGES.get(value.name) or aliases.get(value.name, value.name)
        if name in SIZES:
            return name
    raise DamagedError("a tensor of it has an unknown type")


def storage(pid: Any) -> Any:
    """The storage that a persistent id names.

    ("storage", class, key, device, numel[, (view key, start, length)]); old files also keep the
    source code of classes there: ("module", class, file name, source).
    """
    if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
        return pid[1]
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise DamagedError("it refers to something that is no tensor")
    key, numel, view = pid[2], pid[4], pid[5] if len(pid) > 5 else None
    start = 0
    if isinstance(view, tuple) and len(view) == 3:
        start, numel = view[1], view[2]
    if not isinstance(key, (str, int)) or not _counts((numel, start)):
        raise DamagedError("the storage of a tensor is damaged")
    return Storage(str(key), dtype_of(pid[1]), numel, start)


def _counts(values: Any) -> bool:
    return isinstance(values, (tuple, list)) and all(
        type(v) is int and 0 <= v < _MAX_SIZE for v in values
    )


def _sizes(value: Any) -> tuple[int, ...]:
    value = value.elements if isinstance(value, Opaque) else value
    if not _counts(value) or len(value) > _MAX_DIMS:
        raise DamagedError("a tensor of it has an impossible shape")
    return tuple(value)


def _tensor(args: tuple[Any, ...], dtype: Any = None, layout: str = "strided") -> StoredTensor:
    """(storage, offset, shape, strides, ...), as `torch._utils._rebuild_tensor` takes them."""
    if len(args) < 4 or not isinstance(args[0], Storage) or not _counts((args[1],)):
        raise DamagedError("a tensor of it has no storage")
    name = args[0].dtype if dtype is None else dtype_of(dtype)
    shape, strides = _sizes(args[2]), _sizes(args[3])
    if len(shape) != len(strides):
        raise DamagedError("a tensor of it has an impossible shape")
    return StoredTensor(args[0], name, shape, strides, args[1], layout)


def _tensor_v3(args: tuple[Any, ...]) -> StoredTensor:
    """The type apart from the storage: types that came after typed storages."""
    return _tensor(args, args[6])


def _without_numbers(layout: str, dtype: int, shape: int) -> Callable[[tuple[Any, ...]], Any]:
    """A tensor whose arguments have its type and shape at these places, and no plain numbers."""

    def build(args: tuple[Any, ...]) -> StoredTensor:
        return StoredTensor(None, dtype_of(args[dtype]), _sizes(args[shape]), layout=layout)

    return build


def _sparse(args: tuple[Any, ...]) -> StoredTensor:
    """(layout, (indices, values, shape, ...)) or, compressed, (layout, (rows, columns, values, shape))."""
    tensors = [a for a in args[1] if isinstance(a, StoredTensor)]
    shapes = [a for a in args[1] if not isinstance(a, (StoredTensor, bool))]
    return StoredTensor(None, tensors[-1].dtype, _sizes(shapes[0]), layout="sparse")


def _uninitialised(_: tuple[Any, ...]) -> StoredTensor:
    """What a lazy layer has before its first batch."""
    return StoredTensor(None, "float32", (), layout=UNINITIALISED)


def _first(args: tuple[Any, ...]) -> Any:
    return args[0]


def _from_type(args: tuple[Any, ...]) -> Any:
    """(function, class, its arguments, attributes): a tensor with attributes of its own."""
    return call(args[0], args[2])


# Nothing is copied below: a pickle may hand over the same long list a million times.


def _pairs(args: tuple[Any, ...]) -> dict[Any, Any]:
    if not args or not args[0]:
        return {}
    if isinstance(args[0], dict):
        return args[0]
    if not isinstance(args[0], list):
        raise DamagedError("it makes a mapping of something that is none")
    found = {key(k): v for k, v in args[0]}
    args[0].clear()
    return found


def _default_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    return _pairs(args[1:])


def _sequence(args: tuple[Any, ...]) -> Any:
    return args[0] if args and isinstance(args[0], (list, tuple)) else []


_MAPPINGS = {("collections", "OrderedDict"), ("builtins", "dict"), ("__builtin__", "dict")}

_CALLS: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._utils", "_rebuild_qtensor"): lambda args: _tensor(args, layout="quantised"),
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _sparse,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _without_numbers("meta", 0, 1),
    ("torch.nn.parameter", "UninitializedParameter"): _uninitialised,
    ("torch.nn.parameter", "UninitializedBuffer"): _uninitialised,
    ("torch._tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.tensor", "_rebuild_from_type"): _from_type,
    ("torch.jit._pickle", "build_intlist"): _sequence,
    ("torch.jit._pickle", "build_doublelist"): _sequence,
    ("torch.jit._pickle", "build_boollist"): _sequence,
    ("torch.jit._pickle", "build_tensorlist"): _sequence,
    ("torch.jit._pickle", "restore_type_tag"): _first,
    ("torch", "Size"): _sequence,
    ("collections", "OrderedDict"): _pairs,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "Counter"): _pairs,
    ("builtins", "dict"): _pairs,
    ("builtins", "list"): _sequence,
    ("builtins", "tuple"): _sequence,
    ("builtins", "set"): _sequence,
    ("builtins", "frozenset"): _sequence,
    ("__builtin__", "dict"): _pairs,
    ("__builtin__", "list"): _sequence,
    ("__builtin__", "tuple"): _sequence,
    ("__builtin__", "set"): _sequence,
}
"""(module, function) -> what it builds. Names are compared, never imported."""
