"""A model rewritten for other batch sizes runs at them only if its rows are independent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnaudit.errors import UsageError
from bnaudit.load.model import BatchNormDef, InputSpec
from bnaudit.options import AuditOptions
from bnaudit.pipeline import audit_loaded
from bnaudit.progress import Silent
from tests.data.models import Rows, model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.records.report import Report

DATA = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def audit(mix: Callable[[Tensor], Tensor], exported: int, **options: Any) -> Report:
    loaded = model(
        InputSpec("x", (exported, 3), "float32"),
        module=Rows(mix).eval(),
        batchnorms=(BatchNormDef("bn", 3, "module 'bn'"),),
        static_batch=exported,
        lifted=True,
    )
    return audit_loaded(loaded, "fake", AuditOptions(data=DATA, **options), Silent())


def scramble(y: Tensor) -> Tensor:
    return y + y.flip(0)


def centre(y: Tensor) -> Tensor:
    return y - y.mean(0)


def only_one_size(y: Tensor) -> Tensor:
    return y.reshape(1, 4, 3).sum(1).expand(4, 3)


@pytest.mark.parametrize("exported", [1, 4])
def test_independent_rows_run_at_the_size_of_the_data(exported: int) -> None:
    report = audit(torch.tanh, exported)
    assert report.run is not None
    assert report.run.data.batch_size == 32
    note = f"exported at batch size {exported}, run at 32 (rows proved independent)"
    assert note in report.run.notes


@pytest.mark.parametrize("mix", [scramble, centre, only_one_size])
def test_dependent_rows_run_at_the_exported_size(mix: Callable[[Tensor], Tensor]) -> None:
    report = audit(mix, 4)
    assert report.run is not None
    assert (report.run.data.batch_size, report.run.data.batches) == (4, 8)
    assert "audited at the exported batch size 4: the model's rows depend on it" in report.run.notes


@pytest.mark.parametrize("mix", [scramble, only_one_size])
def test_dependent_rows_at_another_size_are_refused(mix: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UsageError, match="exported at batch size 4 and cannot be run at 16"):
        audit(mix, 4, batch_size=16)


def test_the_exported_size_needs_no_check() -> None:
    report = audit(scramble, 4, batch_size=4)
    assert report.run is not None
    assert report.run.notes == ()


def test_a_difference_below_rounding_is_none() -> None:
    report = audit(lambda y: y + 1e-7 * y.mean(0), 1)
    assert report.run is not None
    assert report.run.data.batch_size == 32
