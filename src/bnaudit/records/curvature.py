"""What BatchNorm does to the curvature along the gradient at one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.values import NOT_REQUESTED, Limits, Metric, Skipped

SWEEP, HESSIAN_VECTOR, DOUBLE_BACKWARD = "sweep", "hessian_vector", "double_backward"
METHODS = (SWEEP, HESSIAN_VECTOR, DOUBLE_BACKWARD)


@dataclass(frozen=True, slots=True)
class Verification:
    """The sweep against double backward at one layer, both in float64 on the first batch.

    Attributes:
        relative_difference: the largest over the sides of the theorem of sum_j |sweep_j - double
            backward_j| / sum_j (|transported_j| + |T_j|), j the channels; G'HzG is compared
            relative to itself.
        tolerance: what `relative_difference` must stay below.
    """

    relative_difference: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class CurvatureRow:
    """The theorem in one channel, on the first batch.

    Attributes:
        measured: g_j'(Hx g)_j.
        predicted: (Jg)_j'(Hz Jg)_j + T_j.
        bound: D_j^2 G_j'(Hz G)_j + T_j.
    """

    measured: float
    predicted: float
    bound: float


NO_ROWS = Skipped("the run did not keep per-channel rows")


@dataclass(frozen=True, slots=True)
class SecondOrder:
    """Theorem 4.2 of Santurkar et al. (2018), as an equality with exact eps, and as it is stated.

    With g = dL/dx, G = dL/dz, J = dz/dx, D = gamma/sigma and the Hessians Hx, Hz of the loss at the
    layer's input and output.

    Attributes:
        measured: g'Hx g, from the Hessian by `method`: the curvature along the gradient.
        predicted: (Jg)'Hz(Jg) + T, transported + correction.
        residual: by "hessian_vector" and "double_backward" sum_j |measured_j - predicted_j| / sum_j
            (|(Jg)_j'(Hz Jg)_j| + |T_j|) over rows. By "sweep" both sides come from the same sums
            and agree, and it is | dL[g] - |g|^2 | / (|DG| |g|): dL[g] the loss's slope along g,
            carried forwards past the same operators, |g|^2 from backward. It checks the transport,
            not the second derivatives; those, `verification` does. Above `tolerance` every other
            number is Skipped.
        tolerance: what `residual` must stay below, given by the precision of the activations.
        transported: (Jg)'Hz(Jg), the output's curvature along the transported gradient.
        correction: T, the curvature of BatchNorm itself; negative where it makes the loss less
            curved along g.
        correction_share: |T| / (|(Jg)'Hz(Jg)| + |T|), 0 to 1.
        rayleigh: rho = g'Hx g / |g|^2. Rescaling the weights before the layer changes it without
            changing the function: a number to read, not to gate on.
        rayleigh_scaled: S G'HzG / |G|^2, what rho would be if BatchNorm only scaled. This and the
            bounds are Skipped unless the metric "second_order_bound" or values by channel were
            asked for.
        bound: sum_j D_j^2 G_j'(Hz G)_j + T, the right side of the theorem as it is usually stated;
            it assumes that Hz preserves the relative norms of g and G.
        bound_slack: (bound - measured) / (|bound| + |measured|); negative where the bound does not
            hold, which is no defect of the model.
        bound_holds: share of channels in which the row-wise bound holds; needs full Hessian-vector
            products, which "sweep" does not form.
        rows: an entry for each channel, from the first batch, where asked for (--channels); their
            sums are the numbers above.
        method: how the curvature was computed: sweep (all layers together, summed in one pass
            forward), hessian_vector (all layers together, full products in one pass forward and
            back; with --channels) or double_backward (layer by layer, the reference).
        verification: the sweep against double backward, both in float64, where asked for
            (--verify-second-order).
    """

    measured: Metric
    predicted: Metric
    residual: float | Skipped
    tolerance: float
    transported: Metric
    correction: Metric
    correction_share: Metric
    rayleigh: Metric
    rayleigh_scaled: Metric
    bound: Metric
    bound_slack: Metric
    bound_holds: Metric
    rows: tuple[CurvatureRow, ...] | Skipped = NO_ROWS
    method: Annotated[str, Limits(among=METHODS)] = DOUBLE_BACKWARD
    verification: Verification | Skipped = NOT_REQUESTED

    @property
    def integrity_failed(self) -> bool:
        """Whether double backward and the closed form disagree beyond rounding."""
        return not isinstance(self.residual, Skipped) and not self.residual <= self.tolerance
