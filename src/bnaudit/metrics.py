"""The metrics of an audit by name, and what each costs. A new one is one line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is for the user who selects it. Costs are measured by `bench/metrics.py`.

    Attributes:
        summary: what it measures.
        cost: in forward passes of the model (F), F taken in inference mode.
        default: whether it is measured without being asked for.
        measured_by: `module:function` that measures it, called with session, first-order pass, options and
            progress, and giving `measure.collect.Found`; None where another metric's does.
    """

    summary: str
    cost: str
    default: bool
    measured_by: str | None = None


METRICS: dict[str, MetricInfo] = {
    "first_order": MetricInfo(
        "gradient-norm reduction, theory against autograd", "about 3.5 F a batch", True
    ),
    "second_order": MetricInfo(
        "curvature along the gradient, theory against the exact Hessian, first batch only",
        "about 0.3 F a layer",
        True,
        "bnaudit.measure.second_order:measure_second_order",
    ),
    "second_order_bound": MetricInfo(
        "the paper's bound on that curvature, first batch only; implies second_order",
        "about 1 F a layer, second_order included",
        False,
    ),
    "statistics": MetricInfo(
        "drift against the running statistics, dead and outlying channels",
        "free with first_order; where the first layers drift, some 40 F up to these",
        True,
        "bnaudit.measure.statistics:measure_statistics",
    ),
    "deployment": MetricInfo(
        "loss and decisions with running statistics, as deployed, beside batch statistics",
        "1 F a batch; about 12 F more where there is a gap",
        True,
        "bnaudit.measure.deployment:measure_deployment",
    ),
    "upstream": MetricInfo(
        "end-to-end effect of BatchNorm on the gradients of all weights in front of it, first batch of "
        "real data",
        "about 8 F",
        True,
        "bnaudit.measure.twins:measure_upstream",
    ),
    "weight_space": MetricInfo(
        "gradient of the weights that feed each layer, minimax bound, first batch only",
        "about 8 to 25 F",
        False,
        "bnaudit.measure.weight_space:measure_weight_space",
    ),
    "twins": MetricInfo(
        "the same by parameter, and without the projection alone, first batch only; implies upstream",
        "about 12 F",
        False,
        "bnaudit.measure.twins:measure_twins",
    ),
}

DEFAULT = tuple(name for name, info in METRICS.items() if info.default)
