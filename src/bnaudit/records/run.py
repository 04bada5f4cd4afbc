"""How an audit was run: data, loss, settings; or why it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from bnaudit.records.matching import Matching
from bnaudit.records.values import NOT_REQUESTED, STATISTICS, Count, Limits, Metric, Skipped
from bnaudit.records.verification import Verification

STOPPED = ("asked", "medians", "data", "cost", "most", "stream")


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The sample batches: where they came from and how they were cut.

    Attributes:
        source: where they came from: file, function (of the user's own), tensor (given from Python),
            synthetic, which is random data made from the input signature and says nothing about real
            data, example, the inputs that a torch.export file brings along, which do not either, or
            matched, which are optimised until they have the model's running statistics.
        paths: as the user typed them; of a function its file and name.
        batches: how many were run.
        batch_size: rows in each.
        available: rows in the data, None for synthetic data.
        distribution: what synthetic values were drawn from, and what the optimisation of matched ones
            began with; None for real data.
        sorted_by_label: whether each batch holds labels of its own.
        digest: SHA-256 of the inputs and labels of all batches that were run, with their names, types and
            shapes: two runs with the same one have read the same. None for made-up data, and where a
            recalibration goes through more than fits into memory.
        matching: how matched batches were made, None of others.
        order: which rows they are: seed, drawn by it from all parts of the data alike, or given, the first
            that an iterable gives; None for made-up data, and where all rows are used.
        stopped: why no more were run: asked, for their number was given; medians, since all are known well
            enough; data, which has no more; cost, counted in values that they send through BatchNorm
            layers; most, which are 64; stream, of which the first 8 are taken; None as above.
        within: how far an interval of a layer's median |g|/|G| reaches from it at most, as a share of it;
            None for fewer than 8 batches, which have no such interval.
    """

    source: Annotated[
        str, Limits(among=("file", "function", "tensor", "synthetic", "example", "matched"))
    ]
    paths: tuple[str, ...]
    batches: Count
    batch_size: Count
    available: Count | None = None
    distribution: str | None = None
    sorted_by_label: bool = False
    digest: str | None = None
    matching: Matching | None = None
    order: Annotated[str | None, Limits(among=("seed", "given"))] = None
    stopped: Annotated[str | None, Limits(among=STOPPED)] = None
    within: float | None = None

    @property
    def made_up(self) -> bool:
        """Whether nothing follows about data that the model has seen."""
        return self.source in {"synthetic", "example", "matched"}


@dataclass(frozen=True, slots=True)
class LossInfo:
    """The scalar that was differentiated.

    Attributes:
        name: cross_entropy and the like, or noise_mse, the automatic label-free one.
        label_free: whether it says nothing of the task: it needs no labels, or has such as were drawn from
            the model itself.
        labels: where the labels came from, None without.
        why: why this loss was used.
        value: the loss over the batches.
        guess: what one constant answer would reach on these labels (all occurring classes alike, or
            their mean), None where that is not defined for the loss.
        labels_are: what the labels were taken for, None without, and where only the user's function knows.
        options: of the loss, as they were set.
    """

    name: str
    label_free: bool
    labels: str | None
    why: str
    value: Metric
    guess: float | None = None
    labels_are: Annotated[
        str | None, Limits(among=("classes", "binary", "values", "sequences"))
    ] = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether the labels were drawn from the model itself."""
        return self.label_free and self.labels is not None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """How the audit was run; with the same inputs these settings give the same numbers.

    Attributes:
        mode: whose statistics normalised: batch, as in training, or running, as in inference.
        device: where it ran ("cpu", "cuda:0").
        dtype: precision of the run ("float32").
        seed: of synthetic data, label-free targets and any randomness inside the model.
        metrics: which groups of metrics were measured.
        data: the sample batches.
        loss: the scalar that was differentiated.
        verify_gradients: at how many layers finite differences were asked for (a number, or "all"),
            None for none.
        verify_second_order: at how many layers the second-order sweep was to be checked against
            double backward (a number, or "all"), None for none.
        inputs: values of the arguments that are no data, as JSON can hold them.
        verification: the converted model's outputs on the first batch, in inference mode, against a
            runtime that reads the file itself; None where nothing was compared.
        versions: of the libraries that computed the numbers.
        notes: what had to be assumed, or was noticed on the way.
        seconds: wall-clock seconds by stage, the only numbers that differ between two equal runs.
    """

    mode: Annotated[str, Limits(among=STATISTICS)]
    device: str
    dtype: str
    seed: int
    metrics: tuple[str, ...]
    data: DataInfo
    loss: LossInfo
    verify_gradients: str | None
    verify_second_order: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    verification: Verification | Skipped = NOT_REQUESTED
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an audit stopped after loading.

    Attributes:
        message: the line that stderr shows.
        hint: its remedy, None where there is none.
        exit_code: what the command exits with.
    """

    message: str
    hint: str | None
    exit_code: int
