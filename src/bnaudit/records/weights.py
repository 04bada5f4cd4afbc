"""What BatchNorm does to the gradient of the weights that feed it."""

from __future__ import annotations

from dataclasses import dataclass

from bnaudit.records.values import Count, Metric, Skipped


@dataclass(frozen=True, slots=True)
class WeightSpace:
    """Theorem 4.4 of Santurkar et al. (2018), the minimax bound, at the layer that feeds a BatchNorm.

    With x_j = U w_j (U the unfolded input of a Linear or convolution), dL/dw_j = U'g_j.

    Attributes:
        feeder: the operator and the parameter it multiplies with ("Conv2d conv1.weight").
        spectral_norm: lambda = |U|_2, the spectral norm, the largest over the groups.
        spectral_norm_centred: lambda_c = |(I - 11'/m) U|_2; since 1'g_j = 0 it bounds as well.
        grad_norm: |dL/dW| measured, over all output channels.
        bound: sqrt(sum_j lambda^2 |g_j|^2), what the theorem allows with BatchNorm; here and below
            each output channel uses the lambda of its own group.
        bound_centred: the same with `spectral_norm_centred`.
        bound_without: sqrt(sum_j lambda^2 |G_j|^2), what it allows without.
        tightness: largest over output channels of |dL/dw_j| / (lambda |g_j|).
        weight_ratio: |U'g| / |U'G|: how much BatchNorm reduces the gradient of the weights. The
            theorem does not fix it: this is the falsifiable number.
        projection: Pi_w = |U'g|^2 / |U'(D G)|^2, what the projection alone leaves. This,
            `tightness` and `weight_ratio` are Skipped where rounding of the weight gradient exceeds
            a hundredth of it.
        violations: output channels with |dL/dw_j| > lambda |g_j| beyond rounding; the theorem says
            0. Skipped with `tightness`: beside withheld numbers a 0 would read as a bound seen to
            hold.
        residual: how far autograd's dL/dW is from U'g, the larger of the direct difference and of
            <w, dL/dw_j> against <U w, g_j> for a random w, which uses the forward operator only;
            relative to |U'g| + 0.1 |U w||g|. Above `tolerance` every other number is Skipped.
        tolerance: what `residual` must stay below, given by the precision of the run.
    """

    feeder: str
    spectral_norm: Metric
    spectral_norm_centred: Metric
    grad_norm: Metric
    bound: Metric
    bound_centred: Metric
    bound_without: Metric
    tightness: Metric
    weight_ratio: Metric
    projection: Metric
    violations: Count | Skipped
    residual: float | Skipped
    tolerance: float

    @property
    def integrity_failed(self) -> bool:
        """Whether autograd's weight gradient and the adjoint disagree beyond rounding."""
        return not isinstance(self.residual, Skipped) and not self.residual <= self.tolerance
