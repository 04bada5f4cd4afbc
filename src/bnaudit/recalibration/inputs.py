"""Whether the inputs are other ones than the model was trained on: new statistics would hide it.

The layers that read inputs get the same whatever the others do; by these `bnaudit.measure.preparation` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.measure.preparation import Layer, search
from bnaudit.records.recalibration import Refusal

if TYPE_CHECKING:
    from bnaudit.recalibration.passes import Passes, Seen


def suspicious_inputs(passes: Passes, before: Seen, batch: Seen) -> Refusal | None:
    """What was done otherwise to the inputs, or None.

    Args:
        passes: runs the data.
        before: with the stored statistics.
        batch: with batch statistics.
    """
    layers = {}
    for layer in passes.layers.values():
        if layer.stored is not None:
            first = _same(before, batch, layer.name)
            layers[layer.name, 1] = Layer(layer.stored, layer.eps, first)
    found = search(passes.session, passes.batches, layers)
    if not found or all(layer.first for layer in layers.values()):
        return None  # a factor of the weights in front is as good an explanation
    evidence = found[0].evidence
    return Refusal(
        "inputs",
        f"{evidence.sentence}: prepared as in training, {', '.join(evidence.layers[:3])} would agree "
        "with what is stored",
        f"feed what training fed ({evidence.code}), unless the deployed network gets this on purpose",
    )


def _same(a: Seen, b: Seen, name: str) -> bool:
    one, two = a.layer(name), b.layer(name)
    sigma = two.variance.sqrt() + 1e-12
    mean = bool(((one.mean - two.mean).abs() <= 1e-3 * sigma).all())
    return mean and bool(((one.variance.sqrt() - two.variance.sqrt()).abs() <= 1e-3 * sigma).all())
