"""What BatchNorm does to the gradient of the weights that feed it: Theorem 4.4, the minimax bound."""

from bnaudit.measure.weight_space.measure import measure_weight_space

__all__ = ["measure_weight_space"]
