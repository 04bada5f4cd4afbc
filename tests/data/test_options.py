"""What people write in Python is taken, or refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bnaudit
from bnaudit.errors import UsageError
from bnaudit.metrics import METRICS
from bnaudit.options import AuditOptions
from bnaudit.records.finding import Severity


def test_names_are_taken_for_what_they_mean() -> None:
    options = AuditOptions(
        fail_on="warning",  # type: ignore[arg-type]
        verify_gradients="all",  # type: ignore[arg-type]
        metrics="all",  # type: ignore[arg-type]
        dtype=torch.float64,  # type: ignore[arg-type]
        device=torch.device("cpu"),  # type: ignore[arg-type]
    )
    assert options.fail_on is Severity.WARNING
    assert options.verify_gradients == -1
    assert options.metrics == tuple(METRICS)
    assert options.dtype == "float64"
    assert options.device == "cpu"
    assert AuditOptions(fail_on="never").fail_on is None  # type: ignore[arg-type]
    assert "twins" in AuditOptions(twins="bn1").metrics


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fail_on", "fatal", "unknown fail_on"),
        ("verify_gradients", "some", "verify_gradients"),
        ("metrics", "first_order,nothing", "unknown metric 'nothing'"),
        ("dtype", torch.int8, "unknown dtype 'int8'"),
        ("seed", -1, "seed"),
        ("mode", "train", "unknown mode"),
        ("batch_sise", 8, "did you mean 'batch_size'"),
    ],
)
def test_what_has_no_meaning_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        bnaudit.audit(nn.BatchNorm1d(3), data=torch.randn(8, 3), **{name: value})
    assert caught.value.hint or "did you mean" in caught.value.message
