"""Records built by hand, one function each; `samples` puts reports together from them."""

from __future__ import annotations

from bnaudit.records.curvature import NO_ROWS, CurvatureRow, SecondOrder
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.layer import (
    NO_CHANNEL_VALUES,
    ChannelValues,
    Extent,
    FiniteDifference,
    FirstOrder,
    Gain,
    LayerReport,
)
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread
from bnaudit.records.weights import WeightSpace


def spread(median: float, wobble: float = 0.02, n: int = 4) -> Spread:
    return Spread(median, median * (1 - wobble), median * (1 + wobble), n)


def once(value: float) -> Spread:
    """What is measured on the first batch only."""
    return Spread(value, value, value, 1)


def gain(low: float, middle: float, high: float, share: float) -> Gain:
    return Gain(spread(low), spread(middle), spread(high), spread(share, 0.0))


def first_order(
    ratio: float,
    *,
    mean: float = 2e-4,
    xhat: float = 1.5e-3,
    residual: float = 3e-8,
    finite: FiniteDifference | Skipped = NOT_REQUESTED,
) -> FirstOrder:
    survives = 1 - mean - xhat
    return FirstOrder(
        statistics="batch",
        predicted=spread(ratio),
        measured=spread(ratio * (1 + 1e-7)),
        residual=residual,
        tolerance=1e-5,
        scale=spread(ratio**2 / survives),
        projection=spread(survives, 1e-4),
        removed_mean=spread(mean),
        removed_xhat=spread(xhat),
        grad_out_norm=spread(0.031, 0.6),
        grad_in_norm=spread(0.031 * ratio, 0.6),
        finite_difference=finite,
    )


def withheld(residual: float) -> FirstOrder:
    """An integrity failure as the measurement hands it on: the residual, and no other number."""
    wrong = Skipped("the gradient is not the one the closed form describes")
    return FirstOrder(
        statistics="batch",
        predicted=wrong,
        measured=wrong,
        residual=residual,
        tolerance=1e-5,
        scale=wrong,
        projection=wrong,
        removed_mean=wrong,
        removed_xhat=wrong,
        grad_out_norm=wrong,
        grad_in_norm=wrong,
        finite_difference=wrong,
    )


def second_order(
    rho: float,
    *,
    slack: float = -0.31,
    holds: float = 0.25,
    correction: float = -0.04,
    residual: float = 2e-13,
    rows: tuple[CurvatureRow, ...] | Skipped = NO_ROWS,
) -> SecondOrder:
    measured = rho * 9.6e-4
    return SecondOrder(
        measured=once(measured),
        predicted=once(measured * (1 + 1e-12)),
        residual=residual,
        tolerance=1e-10,
        transported=once(measured * (1 - correction)),
        correction=once(measured * correction),
        correction_share=once(abs(correction) / (abs(correction) + abs(1 - correction))),
        rayleigh=once(rho),
        rayleigh_scaled=once(rho * 1.3),
        bound=once(measured * (1 + slack)),
        bound_slack=once(slack),
        bound_holds=once(holds),
        rows=rows,
    )


def second_order_withheld(residual: float) -> SecondOrder:
    wrong = Skipped("integrity: double backward and the closed form disagree, numbers withheld")
    return SecondOrder(
        measured=wrong,
        predicted=wrong,
        residual=residual,
        tolerance=1e-10,
        transported=wrong,
        correction=wrong,
        correction_share=wrong,
        rayleigh=wrong,
        rayleigh_scaled=wrong,
        bound=wrong,
        bound_slack=wrong,
        bound_holds=wrong,
    )


def weight_space(
    feeder: str,
    *,
    norm: float = 41.2,
    grad: float = 0.0121,
    bound: float = 0.0871,
    tight: float = 0.34,
    ratio: float = 0.81,
    violations: int = 0,
) -> WeightSpace:
    return WeightSpace(
        feeder=feeder,
        spectral_norm=once(norm),
        spectral_norm_centred=once(0.7 * norm),
        grad_norm=once(grad),
        bound=once(bound),
        bound_centred=once(0.7 * bound),
        bound_without=once(1.4 * bound),
        tightness=once(tight),
        weight_ratio=once(ratio),
        projection=once(0.91),
        violations=violations,
        residual=4e-7,
        tolerance=1e-4,
    )


def weight_space_withheld(feeder: str, residual: float) -> WeightSpace:
    wrong = Skipped("integrity: autograd and the adjoint disagree, numbers withheld")
    return WeightSpace(
        feeder=feeder,
        spectral_norm=wrong,
        spectral_norm_centred=wrong,
        grad_norm=wrong,
        bound=wrong,
        bound_centred=wrong,
        bound_without=wrong,
        tightness=wrong,
        weight_ratio=wrong,
        projection=wrong,
        violations=wrong,
        residual=residual,
        tolerance=1e-4,
    )


def drift(median: float, largest: float, channel: int, error: float = 0.004) -> Drift:
    signed = tuple(largest if c == channel else median for c in range(max(64, channel + 1)))
    margin, least = (5 * error,) * len(signed), tuple(0.9 * value for value in signed)
    middle = (median + largest) / 2
    return Drift(median, middle, largest, channel, error, signed, margin, least, batches=4)


def inconspicuous() -> Channels:
    drifts = (drift(0.02, 0.09, 3), drift(0.05, 0.21, 11))
    return Channels((), (), 1.8, *drifts, grad_xhat_norm=spread(0.021))


def layer(
    name: str,
    *,
    call: int = 1,
    channels: int = 64,
    m: int = 50176,
    gains: Gain | Skipped | None = None,
    order: FirstOrder | Skipped | None = None,
    curvature: SecondOrder | Skipped | None = None,
    space: WeightSpace | Skipped = NOT_REQUESTED,
    statistics: Channels | Skipped | None = None,
    values: ChannelValues | Skipped = NO_CHANNEL_VALUES,
) -> LayerReport:
    gains = gains or gain(0.41, 1.18, 3.2, 0.31)
    return LayerReport(
        name=name,
        call=call,
        kind="BatchNorm2d" if m > 64 else "BatchNorm1d",
        channels=channels,
        m=m,
        eps=1e-5,
        affine=True,
        tracks_running_stats=True,
        training_flag=False,
        origin=f"BatchNormalization node /{name}",
        gain_batch=gains,
        gain_running=gains,
        sigma=Extent(spread(0.2), spread(0.8), spread(2.5)),
        leak=Extent(spread(1e-6), spread(1.6e-5), spread(8e-5)),
        first_order=order or first_order(1.21),
        channel_values=values,
        second_order=curvature or second_order(3.1e-4),
        weight_space=space,
        statistics=statistics or inconspicuous(),
    )
