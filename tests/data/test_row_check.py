"""A model rewritten for other batch sizes runs at them only if its rows are independent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnaudit.data.row_check import CHANGED, DEPENDENT, FAILED
from bnaudit.errors import UsageError
from bnaudit.load.model import BatchNormDef, InputSpec
from bnaudit.options import AuditOptions
from bnaudit.pipeline import audit_loaded
from bnaudit.progress import Silent
from tests.data.models import Rows, model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.load.model import LoadedModel
    from bnaudit.records.report import Report

pytestmark = pytest.mark.usefixtures("in_order")

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


@pytest.mark.parametrize(
    ("mix", "reason"), [(scramble, DEPENDENT), (centre, DEPENDENT), (only_one_size, FAILED)]
)
def test_dependent_rows_run_at_the_exported_size(
    mix: Callable[[Tensor], Tensor], reason: str
) -> None:
    report = audit(mix, 4)
    assert report.run is not None
    assert (report.run.data.batch_size, report.run.data.batches) == (4, 10)
    assert f"audited at the exported batch size 4: {reason}" in report.run.notes


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


class Wrong(torch.nn.Module):
    """A lift that made another network: what it does to the features stands for what a reshape can do."""

    def __init__(
        self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bn = torch.nn.BatchNorm1d(3)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.bn(self.before(x)))


def same(t: Tensor) -> Tensor:
    return t


def rolled(t: Tensor) -> Tensor:
    return t.roll(1, 1)


def of_one_row(t: Tensor) -> Tensor:
    """What `reshape(1, -1)` in place of `reshape(rows, -1)` leaves: right for a single row."""
    return t.T.reshape(t.shape)


def proved(
    before: Callable[[Tensor], Tensor],
    after: Callable[[Tensor], Tensor],
    original: Callable[[Tensor], Tensor] = same,
    **options: Any,
) -> Report:
    """An audit of a file of batch size 1 whose lift is not what the file computes."""

    def loaded(module: torch.nn.Module, **given: Any) -> LoadedModel:
        return model(
            InputSpec("x", (1, 3), "float32"),
            module=module.eval(),
            batchnorms=(BatchNormDef("bn", 3, "module 'bn'"),),
            static_batch=1,
            **given,
        )

    lifted = loaded(
        Wrong(before, after), lifted=True, unlifted=lambda: loaded(Wrong(original, same))
    )
    return audit_loaded(lifted, "fake", AuditOptions(data=DATA, **options), Silent())


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (rolled, same, CHANGED),
        (same, rolled, CHANGED),
        (rolled, torch.zeros_like, CHANGED),
        (of_one_row, same, DEPENDENT),
        (same, of_one_row, DEPENDENT),
        (lambda t: t.reshape(1, 3), same, FAILED),
    ],
)
def test_a_lift_that_makes_another_network_is_undone(
    before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor], reason: str
) -> None:
    report, right = proved(before, after), audit(same, 1, batch_size=1)
    assert report.run is not None
    assert report.run.data.batch_size == 1
    assert report.run.notes == (f"audited at the exported batch size 1: {reason}",)
    assert [layer.statistics for layer in report.layers] == [
        layer.statistics for layer in right.layers
    ]


def test_the_exported_size_is_run_as_the_file_has_it() -> None:
    report, right = proved(rolled, same, batch_size=1), audit(same, 1, batch_size=1)
    assert report.run is not None
    assert report.run.notes == ()
    assert report.layers == right.layers


def test_channels_of_other_scales_are_not_drowned() -> None:
    """The last channel is 1e-6 of the first; only that is exchanged, between the rows."""

    def scaled(t: Tensor) -> Tensor:
        return t * t.new_tensor([1.0, 1.0, 1e-6])

    def exchanged(t: Tensor) -> Tensor:
        return torch.cat((scaled(t)[:, :2], scaled(t)[:, 2:].roll(1, 0)), 1)

    report = proved(exchanged, same, scaled)
    assert report.run is not None
    assert report.run.notes == (f"audited at the exported batch size 1: {DEPENDENT}",)


def test_a_right_lift_is_run() -> None:
    report = proved(same, same)
    assert report.run is not None
    assert report.run.notes == ("exported at batch size 1, run at 32 (rows proved independent)",)


def test_rows_that_are_merged_with_time_are_found_in_either_order() -> None:
    def merged(t: Tensor) -> Tensor:
        steps = torch.stack((t, 2 * t, t - 1))
        return steps.reshape(-1, t.shape[1])

    report = audit(merged, 2)
    assert report.run is not None
    assert report.run.data.batch_size == 32


def test_what_float32_leaves_open_is_decided_in_float64() -> None:
    """Rows that are independent but for rounding, of 5e-4 in float32 and of 1e-12 in float64."""

    def rounded(t: Tensor) -> Tensor:
        return t + (((t.mean(0) + 1e4) - 1e4) - t.mean(0))

    report = audit(rounded, 4)
    assert report.run is not None
    assert report.run.data.batch_size == 32
