"""Every form of a network is swept as the live one is: no operator direction by direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("onnxscript")

from bench.agreement.__main__ import TOLERANCE
from bench.agreement.compare import compared
from bench.forms.measure import FORMS, PROGRAM, measured, written_as
from bench.forms.nets import NETWORKS, made

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_RULE = {"div", "glu", "linalg_vector_norm", "norm", "mkldnn_rnn_layer"}
"""By autograd on the call alone, a whole stack at once but for the last."""

SLOW_TO_WRITE = ("ONNX, dynamo exporter", PROGRAM)
CASES = [
    (name, form)
    for name in NETWORKS
    for form in FORMS
    if form not in SLOW_TO_WRITE or name in ("MobileNet v3", "attention", "speaker")
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_nothing_goes_direction_by_direction(name: str, form: str, tmp_path: Path) -> None:
    net, x = made(name)
    found = measured(written_as(form, net, x, tmp_path), x)
    assert found.swept == found.layers > 1, found.obstacles
    assert set(found.local) <= WITHOUT_RULE
    assert found.singly <= {"mkldnn_rnn_layer"}


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("attention", "CRNN")])
def test_they_agree_with_double_backward(name: str) -> None:
    """Attention is compared elsewhere; in float64 an LSTM writes through views, and is not swept."""
    found = compared(*made(name))
    assert not found.failed
    assert found.compared == found.swept == found.layers, found.notes
    assert max(found.differences.values()) <= TOLERANCE, found.worst
