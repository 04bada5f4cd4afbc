"""Random reports for property tests: any text, any float, any group missing."""

from __future__ import annotations

from hypothesis import strategies as st

from bnaudit.records import report as records
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.layer import (
    ChannelValues,
    Extent,
    FiniteDifference,
    FirstOrder,
    Gain,
    LayerReport,
)
from bnaudit.records.values import Skipped, Spread

TEXT = st.text(max_size=60) | st.text("ab.\x1b\n[]é名\u0301", max_size=200)
COUNT = st.integers(0, 10**7)
FLOAT = st.floats() | st.floats(1e-3, 1e3)
OPTIONAL_TEXT = st.none() | TEXT

SKIPPED = st.builds(Skipped, TEXT)
SPREAD = st.builds(Spread, FLOAT, FLOAT, FLOAT, st.integers(0, 64))
METRIC = SPREAD | SKIPPED
GAIN = st.builds(Gain, SPREAD, SPREAD, SPREAD, SPREAD)
EXTENT = st.builds(Extent, SPREAD, SPREAD, SPREAD)
FINITE_DIFFERENCE = st.builds(FiniteDifference, FLOAT, FLOAT, FLOAT, FLOAT)
FIRST_ORDER = st.builds(
    FirstOrder,
    statistics=st.sampled_from(["batch", "running"]),
    predicted=METRIC,
    measured=METRIC,
    residual=FLOAT | SKIPPED,
    tolerance=FLOAT,
    scale=METRIC,
    projection=METRIC,
    removed_mean=METRIC,
    removed_xhat=METRIC,
    grad_out_norm=METRIC,
    grad_in_norm=METRIC,
    finite_difference=FINITE_DIFFERENCE | SKIPPED,
)
ARRAY = st.lists(FLOAT, max_size=4).map(tuple)
CHANNEL_VALUES = st.builds(ChannelValues, *[ARRAY] * 8)
LAYER = st.builds(
    LayerReport,
    name=TEXT,
    call=st.integers(1, 30),
    kind=st.sampled_from(["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]),
    channels=COUNT,
    m=st.integers(0, 10**12),
    eps=FLOAT,
    affine=st.booleans(),
    tracks_running_stats=st.booleans(),
    training_flag=st.booleans(),
    origin=TEXT,
    gain_batch=GAIN | SKIPPED,
    gain_running=GAIN | SKIPPED,
    sigma=EXTENT | SKIPPED,
    leak=EXTENT | SKIPPED,
    first_order=FIRST_ORDER | SKIPPED,
    channel_values=st.none() | CHANNEL_VALUES,
)
FINDING = st.builds(
    Finding,
    rule=st.from_regex(r"BN\d{3}", fullmatch=True),
    name=TEXT,
    severity=st.sampled_from(Severity),
    layer=OPTIONAL_TEXT,
    message=TEXT,
    fix=TEXT,
    observed=st.none() | FLOAT,
    threshold=st.none() | FLOAT,
)

TEXTS = st.lists(TEXT, max_size=3).map(tuple)
DIMENSION = st.none() | COUNT | TEXT
TENSOR = st.builds(
    records.TensorInfo,
    TEXT,
    st.none() | st.lists(DIMENSION, max_size=4).map(tuple),
    OPTIONAL_TEXT,
)
MODEL = st.builds(
    records.ModelInfo,
    path=TEXT,
    format=TEXT,
    producer=OPTIONAL_TEXT,
    facts=st.dictionaries(TEXT, TEXT, max_size=3),
    inputs=st.lists(TENSOR, max_size=3).map(tuple),
    outputs=TEXTS,
    parameters=st.integers(0, 10**12),
    defined=TEXTS,
    not_executed=TEXTS,
    instance_norms=COUNT,
    notes=TEXTS,
)
DATA = st.builds(
    records.DataInfo,
    source=st.sampled_from(["file", "tensor", "synthetic"]),
    paths=TEXTS,
    batches=COUNT,
    batch_size=COUNT,
    available=st.none() | COUNT,
    distribution=OPTIONAL_TEXT,
)
LOSS = st.builds(records.LossInfo, TEXT, st.booleans(), OPTIONAL_TEXT, TEXT, METRIC)
RUN = st.builds(
    records.RunInfo,
    mode=st.sampled_from(["batch", "running"]),
    device=TEXT,
    dtype=TEXT,
    seed=st.integers(),
    metrics=TEXTS,
    data=DATA,
    loss=LOSS,
    verify_gradients=OPTIONAL_TEXT,
    versions=st.dictionaries(TEXT | st.just("torch"), TEXT, max_size=3),
    notes=TEXTS,
    seconds=st.dictionaries(TEXT, FLOAT, max_size=3),
)
FAILURE = st.builds(records.Failure, TEXT, OPTIONAL_TEXT, st.integers(1, 130))
REPORT = st.builds(
    records.Report,
    model=MODEL,
    run=st.none() | RUN,
    layers=st.lists(LAYER, max_size=4).map(tuple),
    findings=st.lists(FINDING, max_size=4).map(tuple),
    fail_on=st.none() | st.sampled_from(Severity),
    allow_no_bn=st.booleans(),
    failure=st.none() | FAILURE,
)
