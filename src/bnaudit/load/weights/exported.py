"""The weights and constants of an exported program: bytes, found by a JSON table of names.

Entries marked `use_pickle` are pickles that PyTorch would load with code; they are left closed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.objects import SIZES, DamagedError, Storage, StoredTensor
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.stored import StoredFile, weight_file

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.weights.model import WeightFile

MAX_JSON = 1 << 28
DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""ScalarType of torch/_export/serde/schema.py -> name."""


def read_exported(path: Path) -> WeightFile:
    """The tensors of a .pt2 file; buffers come behind all parameters there, not where they belong.

    Raises:
        InputError: it is damaged, or of an older format.
    """
    with explained(path, "torch.export file"):
        archive = Archive(path)
        tensors, _ = stored_weights(archive, model_names(archive)[0])
    closed = sum(t.storage is None for t in tensors.values())
    notes = (f"{path}: {closed} tensors stored as pickles left out",) if closed else ()
    stored = StoredFile(path, FileKind.EXPORTED, "zip", tensors, (archive,), (path,), notes=notes)
    return weight_file(stored, ordered=False, layouts={})


def model_names(archive: Archive) -> list[str]:
    """The models in a file, at least one.

    Raises:
        DamagedError: there is none.
    """
    names = [n for n in archive.names() if n.startswith("models/") and n.endswith(".json")]
    if not names:
        raise DamagedError("it has no models/*.json: written by an old PyTorch, or compiled")
    return [name.removeprefix("models/").removesuffix(".json") for name in names]


def read_json(archive: Archive, name: str) -> Any:
    """A JSON member.

    Raises:
        DamagedError: it is missing, damaged or no JSON.
    """
    try:
        return json.loads(archive.small(name, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{name} inside it is not JSON") from error


def stored_weights(archive: Archive, model: str) -> tuple[dict[str, StoredTensor], set[str]]:
    """(name -> tensor of the weights and constants, names of parameters).

    Args:
        archive: the file.
        model: which of its models.

    Raises:
        DamagedError: a table is damaged.
    """
    tensors: dict[str, StoredTensor] = {}
    parameters: set[str] = set()
    for kind in ("weights", "constants"):
        table = f"data/{kind}/{model}_{kind}_config.json"
        if table not in archive:
            continue
        try:
            entries = read_json(archive, table)["config"].items()
            for name, entry in entries:
                tensors[name] = _tensor(archive, f"data/{kind}/{entry['path_name']}", entry)
                if entry.get("is_param") is True:
                    parameters.add(name)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamagedError(f"{table} inside it is damaged") from error
    return tensors, parameters


def _tensor(archive: Archive, key: str, entry: Any) -> StoredTensor:
    meta = entry.get("tensor_meta")
    if not isinstance(meta, dict):
        return StoredTensor(None, "uint8", (), layout="pickled")
    dtype = DTYPES.get(meta["dtype"], "other")
    shape = tuple(_integer(size) for size in meta["sizes"])
    strides = tuple(_integer(size) for size in meta["strides"])
    if entry.get("use_pickle") is not False or dtype not in SIZES or len(strides) != len(shape):
        return StoredTensor(None, dtype, shape, layout="pickled")
    storage = Storage(key, dtype, archive.size(key) // SIZES[dtype])
    return StoredTensor(storage, dtype, shape, strides, _integer(meta["storage_offset"]))


def _integer(value: Any) -> int:
    number = value["as_int"]
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise ValueError(number)
    return number
