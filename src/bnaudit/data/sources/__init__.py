"""Sources of samples: a file a kind, all listed in `SOURCES`."""

from __future__ import annotations

import zipfile
from pathlib import Path

from bnaudit.data.sources import images, numpy_files, polygraphy, tables, tensor_files
from bnaudit.data.sources.source import COPY_AGAIN, YOUR_OWN, Found, Source, Wanted
from bnaudit.errors import DataError
from bnaudit.files import opened

SOURCES: tuple[Source, ...] = (
    Source(".npy", numpy_files.is_npy, numpy_files.read_npy),
    Source(".npz", numpy_files.is_npz, numpy_files.read_npz),
    Source("Polygraphy's .json", polygraphy.is_feed, polygraphy.read_feed),
    Source("a folder of images", images.is_images, images.read_images),
    Source(".parquet", tables.is_parquet, tables.read_parquet),
    Source(".csv", tables.is_csv, tables.read_csv),
    Source(".safetensors", tensor_files.is_safetensors, tensor_files.read_safetensors),
    Source(".pt tensors", tensor_files.is_saved, tensor_files.read_saved),
)
"""The first whose test holds reads; .pt comes last, as its pickles have no mark of their own."""

_HEAD = 16
_KINDS = ", ".join(source.name for source in SOURCES)


def read(path: Path, wanted: Wanted) -> Found:
    """The arrays of a file or folder, its kind told by content where content tells.

    Raises:
        DataError: there is no such file, it is of no kind that is read, or it is damaged.
    """
    name = None
    try:
        head = b"" if path.is_dir() else _head(path)
        source = next((s for s in SOURCES if s.is_one(path, head)), None)
        if source is not None:
            name = source.name
            return source.read(path, wanted)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: a damaged or cut-off .npz file", hint=COPY_AGAIN) from error
    except OSError as error:
        reason = error.strerror or "not what it begins as"
        raise DataError(f"{path}: cannot be read ({reason})") from error
    except Exception as error:  # numpy, zipfile, zlib and pickle each fail in ways of their own
        raise DataError(
            f"{path}: cannot be read as {name or 'data'}",
            hint="damaged, or it holds pickled objects, which are not read; write it with "
            "numpy.savez(path, name=array) or torch.save of tensors",
        ) from error
    if not head:
        raise DataError(f"{path}: an empty file", hint="copy or download it again")
    raise DataError(f"{path}: is none of {_KINDS}", hint=YOUR_OWN)


def _head(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(_HEAD)


__all__ = ["SOURCES", "Found", "Path", "Source", "Wanted", "read"]
