"""Whatever a file stores, no rule raises, and every finding can be written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from bnaudit.judge.verdicts import judge_inspection
from bnaudit.records.inspection import BatchNormStatics, Feeder, Inspection
from bnaudit.records.wire.write import write
from bnaudit.render.forms_v1 import FORMS

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NUMBERS = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 1.0, 1e-45, 1e-5, -1e-9, 65504.0, 1e38, float("nan"), float("inf")]
    ),
    st.floats(),
)
ARRAYS = st.none() | st.lists(NUMBERS, max_size=20).map(tuple)


def layers() -> SearchStrategy[BatchNormStatics]:
    feeders = st.builds(Feeder, st.text(), st.text(), st.none() | st.booleans(), st.booleans())
    return st.builds(
        BatchNormStatics,
        name=st.text(max_size=5),
        origin=st.just(""),
        channels=st.none() | st.integers(0, 20),
        eps=st.none() | NUMBERS,
        momentum=st.none() | NUMBERS,
        training=st.none() | st.booleans(),
        batches_tracked=st.none() | st.integers(-1, 10**18),
        dtype=st.sampled_from([None, "float16", "float32", "bfloat16"]),
        gamma=ARRAYS,
        beta=ARRAYS,
        running_mean=ARRAYS,
        running_var=ARRAYS,
        feeder=st.none() | feeders,
        preceded_by=st.sampled_from([None, "Conv", "Dropout", "BatchNormalization", ""]),
    )


INSPECTIONS = st.builds(
    Inspection,
    path=st.just("m"),
    kind=st.sampled_from(["onnx", "torchscript", "exported", "checkpoint", "module"]),
    producer=st.sampled_from([None, "", "tf2onnx"]),
    batchnorms=st.lists(layers(), max_size=7).map(tuple),
)


@given(INSPECTIONS)
@settings(max_examples=150, deadline=None)
def test_no_rule_raises_and_no_finding_breaks_the_json(inspection: Inspection) -> None:
    for finding in judge_inspection(inspection).findings:
        json.dumps(write(finding, FORMS), allow_nan=False)
        assert finding.message
        assert finding.fix
        assert finding.channels == tuple(sorted(set(finding.channels)))
