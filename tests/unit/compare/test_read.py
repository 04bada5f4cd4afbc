"""Reports are read back as strictly as they were written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnaudit.documents import is_document, read_snapshot, snapshot_from
from bnaudit.errors import InputError
from bnaudit.render.json_v1 import document_text
from tests.unit.render import samples
from tests.unit.render.strategies import REPORT

if TYPE_CHECKING:
    from pathlib import Path


def document(name: str = "everything") -> Any:
    return json.loads(document_text(samples.ALL[name]()))


@pytest.mark.parametrize("name", samples.ALL)
def test_every_report_is_read_but_failed_ones(name: str) -> None:
    report = samples.ALL[name]()
    if report.failure is not None:
        with pytest.raises(InputError, match="did not finish"):
            snapshot_from(json.dumps(document(name)).encode(), "r.json")
        return
    snapshot = snapshot_from(json.dumps(document(name)).encode(), "r.json")
    assert [layer.label for layer in snapshot.layers] == [layer.label for layer in report.layers]
    assert [f.message for f in snapshot.findings] == [f.message for f in report.findings]


def test_numbers_and_settings() -> None:
    snapshot = snapshot_from(json.dumps(document()).encode(), "r.json")
    numbers = snapshot.layers[0].numbers
    assert set(numbers) == {"gain", "reduction", "curvature", "mean_drift", "variance_drift"}
    assert (numbers["gain"].value, numbers["gain"].spread_known) == (1.62, True)
    assert numbers["gain"].low < 1.62 < numbers["gain"].high
    assert not numbers["curvature"].spread_known
    assert snapshot.settings["dtype"] == "float32"
    assert snapshot.settings["batches"] == "4 of 64"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(REPORT)
def test_whatever_is_written_is_read(report: Any) -> None:
    written = json.loads(document_text(report))
    if written["failure"] is None:
        snapshot = snapshot_from(json.dumps(written).encode(), "r.json")
        assert len(snapshot.findings) == len(report.findings)


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(node, dict):
        for key, child in node.items():
            found += paths(child, (*path, key))
    elif isinstance(node, list) and node:
        found += paths(node[0], (*path, 0))
    return found


BROKEN: list[Any] = [None, [], {}, "text", -1, True, 1e400]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_a_broken_document_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    broken = document("sick")
    *above, last = data.draw(st.sampled_from(paths(broken)))
    node = broken
    for key in above:
        node = node[key]
    if isinstance(node, dict) and data.draw(st.booleans()):
        del node[last]
    else:
        node[last] = data.draw(st.sampled_from(BROKEN))
    try:
        snapshot_from(json.dumps(broken).encode(), "r.json")
    except InputError as error:
        complaint = (error.message.startswith("r.json: "), bool(error.hint))
    else:
        complaint = (True, True)  # a key that no comparison needs
    assert complaint == (True, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "r.json:1: not valid JSON"),
        (b"{}", "r.json: JSON, but not a report"),
        (b"[]", "r.json: JSON, but not a report"),
        (b'{"schema": 1}', "r.json: JSON, but not a report"),
        (
            b'{"schema": "bnaudit.report/2"}',
            "has the schema 'bnaudit.report/2', not bnaudit.report/1",
        ),
        (b'{"schema": "bnaudit.report/1"}', "r.json: not a whole report: tool is missing"),
        (b'{"schema": NaN}', "r.json: not strict JSON: it has NaN"),
        (b'{"schema":\n\n x}', "r.json:3: not valid JSON"),
        (b"\xff\xfe", "r.json: not a report: not UTF-8"),
        (b"[" * 100_000, "r.json: not a report: JSON of no sensible size"),
        (b'{"schema": ' + b"1" * 5000 + b"}", "r.json: not a report: JSON of no sensible size"),
    ],
)
def test_what_is_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    from pathlib import Path as Here

    monkeypatch.chdir(tmp_path)
    Here("r.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_snapshot(Here("r.json"))
    assert message in caught.value.message
    assert caught.value.exit_code == 2


def test_documents_are_told_from_models(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, expected in ((b'\xef\xbb\xbf \n{"', True), (b"PK\x03\x04", False), (b"", False)):
        path.write_bytes(content)
        assert is_document(path) is expected
    with pytest.raises(InputError, match="no such file"):
        is_document(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        is_document(tmp_path)
