"""Random reports for property tests: any text, any float, any group missing."""

from __future__ import annotations

from math import nan

from hypothesis import strategies as st

from bnaudit.documents import Report
from bnaudit.records import model, run
from bnaudit.records.baseline import Baseline
from bnaudit.records.curvature import NO_ROWS, CurvatureRow, SecondOrder
from bnaudit.records.drift import Channels, Drift, Excess
from bnaudit.records.finding import Finding, RuleNotRun, Severity, Suppressed
from bnaudit.records.layer import (
    NO_CHANNEL_VALUES,
    ChannelValues,
    Extent,
    FiniteDifference,
    FirstOrder,
    Gain,
    LayerReport,
)
from bnaudit.records.twins import ParameterEffect, Twin, Upstream
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread
from bnaudit.records.weights import WeightSpace

TEXT = st.text(max_size=60) | st.text("ab.\x1b\n[]é名\u0301", max_size=200)
COUNT = st.integers(0, 10**7)
FLOAT = st.floats() | st.floats(1e-3, 1e3)
OPTIONAL_TEXT = st.none() | TEXT

SKIPPED = st.builds(Skipped, TEXT)
SPREAD = st.builds(Spread, FLOAT, FLOAT, FLOAT, st.integers(0, 64))
METRIC = SPREAD | SKIPPED
ABSENT = st.just(NOT_REQUESTED)
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
SECOND_ORDER = st.builds(
    SecondOrder,
    measured=METRIC,
    predicted=METRIC,
    residual=FLOAT | SKIPPED,
    tolerance=FLOAT,
    transported=METRIC,
    correction=METRIC,
    correction_share=METRIC,
    rayleigh=METRIC,
    rayleigh_scaled=METRIC,
    bound=METRIC,
    bound_slack=METRIC,
    bound_holds=METRIC,
    rows=st.just(NO_ROWS)
    | st.lists(st.builds(CurvatureRow, FLOAT, FLOAT, FLOAT), max_size=3).map(tuple),
)
WEIGHT_SPACE = st.builds(
    WeightSpace,
    feeder=TEXT,
    spectral_norm=METRIC,
    spectral_norm_centred=METRIC,
    grad_norm=METRIC,
    bound=METRIC,
    bound_centred=METRIC,
    bound_without=METRIC,
    tightness=METRIC,
    weight_ratio=METRIC,
    projection=METRIC,
    violations=COUNT | SKIPPED,
    residual=FLOAT | SKIPPED,
    tolerance=FLOAT,
)
FLOATS = st.lists(FLOAT, max_size=4).map(tuple)
EXCESS = st.none() | st.builds(Excess, FLOAT, FLOAT, FLOAT)
SIGNED = st.just((1.0,))
DRIFT = st.builds(
    Drift, FLOAT, FLOAT, FLOAT, st.just(0), FLOAT, SIGNED, FLOATS, FLOATS, EXCESS, COUNT
)
INDICES = st.lists(COUNT, max_size=6).map(tuple)
CHANNELS = st.builds(
    Channels,
    dead_gamma=INDICES,
    dead_gradient=INDICES | SKIPPED,
    gain_outlier=FLOAT | SKIPPED,
    mean_drift=DRIFT | SKIPPED,
    variance_drift=DRIFT | SKIPPED,
    constant=INDICES,
    not_finite=INDICES,
    grad_xhat_norm=METRIC,
)
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
    channel_values=st.just(NO_CHANNEL_VALUES) | CHANNEL_VALUES,
    second_order=SECOND_ORDER | SKIPPED | ABSENT,
    weight_space=WEIGHT_SPACE | SKIPPED | ABSENT,
    statistics=CHANNELS | SKIPPED | ABSENT,
)
# Norms are not negative, whatever else they are.
NORM = st.floats(min_value=0) | st.just(nan)
FINITE_NORM = st.floats(min_value=0, allow_infinity=False)
EFFECT = st.builds(ParameterEffect, TEXT, NORM, NORM)
TWIN = st.builds(
    Twin,
    kind=st.sampled_from(["frozen", "identity"]) | TEXT,
    layer=OPTIONAL_TEXT,
    loss_difference=FLOAT,
    grad_norm=NORM,
    twin_grad_norm=NORM,
    parameters=st.lists(EFFECT, max_size=5).map(tuple),
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
    channels=INDICES,
    interval=st.none() | st.tuples(FLOAT, FLOAT),
    confidence=TEXT,
    status=st.sampled_from([None, "new", "worse", "known"]),
)
SUPPRESSED = st.builds(Suppressed, FINDING, TEXT)
NOT_RUN = st.builds(RuleNotRun, st.from_regex(r"BN\d{3}", fullmatch=True), TEXT, TEXT)

TEXTS = st.lists(TEXT, max_size=3).map(tuple)
DIMENSION = st.none() | COUNT | TEXT
TENSOR = st.builds(
    model.TensorInfo,
    TEXT,
    st.none() | st.lists(DIMENSION, max_size=4).map(tuple),
    OPTIONAL_TEXT,
)
MODEL = st.builds(
    model.ModelInfo,
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
    run.DataInfo,
    source=st.sampled_from(["file", "tensor", "synthetic"]),
    paths=TEXTS,
    batches=COUNT,
    batch_size=COUNT,
    available=st.none() | COUNT,
    distribution=OPTIONAL_TEXT,
)
LOSS = st.builds(run.LossInfo, TEXT, st.booleans(), OPTIONAL_TEXT, TEXT, METRIC)
RUN = st.builds(
    run.RunInfo,
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
FAILURE = st.builds(run.Failure, TEXT, OPTIONAL_TEXT, st.integers(1, 130))
BASELINE = st.builds(Baseline, TEXT, COUNT, COUNT, COUNT, COUNT, TEXTS)
REPORT = st.builds(
    Report,
    model=MODEL,
    run=st.none() | RUN,
    layers=st.lists(LAYER, max_size=4).map(tuple),
    findings=st.lists(FINDING, max_size=4).map(tuple),
    fail_on=st.none() | st.sampled_from(Severity),
    allow_no_bn=st.booleans(),
    failure=st.none() | FAILURE,
    twins=st.lists(TWIN, max_size=6).map(tuple) | SKIPPED | ABSENT,
    upstream=st.builds(Upstream, FINITE_NORM, FINITE_NORM, COUNT) | SKIPPED | ABSENT,
    gradient_scale=METRIC | ABSENT,
    suppressed=st.lists(SUPPRESSED, max_size=2).map(tuple),
    rules_not_run=st.lists(NOT_RUN, max_size=3).map(tuple),
    baseline=st.none() | BASELINE,
)
