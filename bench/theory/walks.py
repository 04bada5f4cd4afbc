"""The table about landscapes: what the paper's walk and the relative one say of one function."""

from __future__ import annotations

from fixtures.nets import load_net

import bnaudit
from bench.theory.effects import rescaled
from bench.theory.runs import FIXTURES, untrained, value
from bench.theory.text import number, table
from bnaudit.records.values import Skipped

ROWS = 64
ENDS = (0.01, 0.4)


def landscapes() -> str:
    """Both walks of a trained network, of itself rescaled, and of an untrained one; one batch, float64."""
    net = load_net("digits_resnet", FIXTURES / "digits_resnet" / "state_dict.pt").double()
    variants = {
        "trained": net,
        "trained, 4 W, eps -> 16 eps": rescaled(net, 4),
        "untrained": untrained("digits_resnet", 0).double(),
    }
    header = [
        "digits_resnet",
        "steps",
        "loss",
        "varies by: BN",
        "frozen",
        "beta: BN",
        "frozen",
        "frozen / BN",
    ]
    rows = []
    for name, one in variants.items():
        record = bnaudit.landscape(
            one,
            data=str(FIXTURES / "digits_resnet" / "batch.npz"),
            batch_size=ROWS,
            batches=1,
            eta=ENDS,
            relative=ENDS,
            steps=5,
        )
        for comparison in record.comparisons:
            with_bn, frozen = (w for w in record.walks if w.form == comparison.form)
            found = (with_bn.loss, with_bn.variation, frozen.variation, with_bn.beta, frozen.beta)
            shown = [number(value(v)) for v in (*found, comparison.beta)]
            assert not isinstance(comparison.beta, Skipped)  # noqa: S101  # every step is finite
            rows.append([name, comparison.form, *shown])
    return table(header, rows)
