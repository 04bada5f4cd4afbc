"""The network as it is deployed: what running statistics make of it, beside the batch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.values import Count, Estimate, Limits, Skipped

Share = Annotated[float, Limits(minimum=0, maximum=1)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How well the network does with one kind of statistics.

    Attributes:
        loss: in units of the loss that `run` names.
        accuracy: share of right decisions (0 to 1), where the labels are classes.
    """

    loss: Estimate | Skipped
    accuracy: Estimate | Skipped


CAUSES = {
    "inputs-scaled": "these inputs are {} times those of training",
    "inputs-shifted": "{} was added to the inputs of training",
    "inputs-in-other-range": "these inputs are in another range than those of training",
    "inputs-inverted": "these inputs are the negative of those of training",
    "inputs-not-standardised": "the inputs of training had mean 0 and variance 1 in every channel",
    "inputs-not-normalised": "the mean and std of ImageNet are missing on these inputs{}",
    "inputs-normalised": "mean and std were taken off these inputs, and not off those of training{}",
    "inputs-normalised-twice": "mean and std were taken off these inputs twice",
    "channels-reversed": "the channels of these inputs are in the other order (RGB, BGR)",
    "inputs-in-other-layout": "the axes of these inputs were taken for each other (NHWC, NCHW)",
    "other-resolution": "these inputs have {} times the resolution of training",
    "initial-statistics": "{} of the running statistics is still the mean 0 and variance 1 that they began "
    "with: too few batches, or a momentum that is too small",
    "single-row-statistics": "the running statistics are those of batches of a single row, which do not see "
    "how rows differ",
    "edited-layers": "the statistics of {} fit nothing that arrives there while all others fit: changed "
    "after training (an edit, a conversion, a merge)",
    "other-weights": "the statistics of {} do not fit, behind the inputs no worse than elsewhere: of other "
    "weights (an average, a soup, further training), or of inputs of another kind",
}
"""What may be supposed where running statistics do not fit, in words; {} is its number."""

OF_INPUTS = tuple(CAUSES)[: tuple(CAUSES).index("initial-statistics")]
"""The network is right then, and gets something else than in training."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One supposition under which the running statistics would fit.

    Attributes:
        cause: what is supposed. inputs-scaled: they are `value` times those of training; inputs-shifted:
            `value` was added to them; inputs-in-other-range: both; inputs-inverted: their negative;
            inputs-not-standardised: those of training had mean 0 and variance 1 in every channel;
            inputs-not-normalised:
            ImageNet's mean and standard deviation are missing, after a division by `value` where there is
            one; inputs-normalised: they were taken off, and training did not, nor divided by `value`;
            inputs-normalised-twice: with the same; channels-reversed: RGB for BGR; inputs-in-other-layout:
            axes were taken for each other; other-resolution: `value` times that of training;
            initial-statistics: the share `value` of them is still the 0 and 1 that they began with;
            single-row-statistics: they are those of batches of one row; edited-layers: those of `value`
            layers, none of which reads the inputs, were changed after training, since all others fit;
            other-weights: those of `value` layers, most of all, do not fit, and no better behind the inputs
            than elsewhere.
        value: its number, None where it has none.
        explains: share of what is to be explained that goes with such inputs or statistics (at most 1): of
            the gap, or what these layers make of it; of the distance between the running and the batch's
            statistics; of that distance at the first layers.
        code: Python that prepares the batch `x` as in training; None where no other inputs were tried.
        inputs: their names, where the network has several.
        layers: labels of the first layers that are reached by them.
    """

    cause: Annotated[str, Limits(among=tuple(CAUSES))]
    value: float | None
    explains: float
    code: str | None = None
    inputs: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """The value in words."""
        if self.value is None:
            return ""
        if self.cause in {"edited-layers", "other-weights"}:
            return f"{self.value:.0f} layer{'' if self.value == 1 else 's'}"
        if self.cause == "initial-statistics":
            return f"{self.value:.0%}"
        if self.cause == "inputs-not-normalised":
            return f", after a division by {self.value:.0f}"
        if self.cause == "inputs-normalised":
            return f", which went up to {self.value:.0f}"
        return f"{self.value:.3g}"

    @property
    def sentence(self) -> str:
        """What is supposed."""
        named = f"{', '.join(self.inputs)}: " if self.inputs else ""
        return named + CAUSES[self.cause].format(self.number)


@dataclass(frozen=True, slots=True)
class Located:
    """Where the gap comes from, on one batch; each layer's part is in its `gap`.

    Without labels all is in units of the squared distance of the outputs to those with batch statistics, over
    what these differ from row to row.

    Attributes:
        batch: which one, from 1: of the audited batches the one whose gap is nearest to the mean gap.
        deployed: loss of that batch with running statistics.
        gap: how much more that is than with its own.
        rest: what the parts of the layers leave of it: the error of the quadrature.
        recomputed: loss of that batch with every layer's statistics recomputed from all audited
            batches: what recalibration can reach. Skipped where it is not finite.
        evidence: suppositions that explain at least half of it, the best first.
    """

    batch: Count
    deployed: float
    gap: float
    rest: float
    recomputed: float | Skipped
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """The same rows with running statistics, as deployed, and with those of each batch, as in training.

    Attributes:
        batches: how many were run, those of the audit and further ones of the same size.
        rows: in all of them together.
        batch: with the statistics of each batch.
        running: with the running statistics.
        gap: loss with running statistics minus that with the batch's, batch by batch.
        distance: of the outputs of the two: |y_run - y_batch| / |y_batch - mean over the rows|.
        changed: share of the decisions (largest output) that differ between the two.
        located: where the gap comes from.
    """

    batches: Count
    rows: Count
    batch: Outcome
    running: Outcome
    gap: Estimate | Skipped
    distance: Estimate | Skipped
    changed: Estimate | Skipped
    located: Located | Skipped


@dataclass(frozen=True, slots=True)
class LayerGap:
    """One layer's part in the gap between running and batch statistics, on one batch.

    Attributes:
        share: of the gap, in units of the loss (without labels of the squared distance): the integral of the
            loss's derivative along this layer's statistics, on the path on which all layers go from the
            running to the batch's together.
        alone: what the batch's own statistics at this layer alone take off the deployed loss; measured at
            the layers with the largest shares.
    """

    share: float
    alone: float | Skipped
