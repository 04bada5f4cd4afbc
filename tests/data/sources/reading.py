"""What the sources' tests share: samples of a path, errors of one, signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.data.files import read_samples
from bnaudit.errors import DataError
from bnaudit.load.model import InputSpec
from bnaudit.options import AuditOptions
from tests.data.models import model

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.data.batch import Samples

IMAGE = InputSpec("image", ("batch", 3, 8, 6), "float32")
TABLE = InputSpec("x", ("batch", 3), "float32")


def samples(path: Path | str, *inputs: InputSpec, **options: Any) -> Samples:
    labels = options.pop("labels", None)
    return read_samples([str(path)], model(*inputs), AuditOptions(**options), labels)


def read_all(path: Path | str, *inputs: InputSpec, **options: Any) -> None:
    found = samples(path, *inputs, **options)
    found.rows()
    for rows in (*found.arrays.values(), found.labels):
        if rows is not None:
            rows.all()


def refused(path: Path | str, *inputs: InputSpec, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read_all(path, *inputs, **options)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value
