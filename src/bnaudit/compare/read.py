"""Reports of `check` and `inspect`, read back from JSON as far as a comparison needs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from bnaudit.compare.parts import HINT, Part
from bnaudit.errors import InputError
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.snapshot import LayerSnapshot, Quantity, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_START = 64
_TWO = "diff takes two reports (-o report.json), or two model files"


def is_document(path: Path) -> bool:
    """Whether a file is JSON rather than a model, by how it begins.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_START)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint=_TWO) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint=_TWO) from error
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}


def read_snapshot(path: Path) -> Snapshot:
    """A report that `-o report.json` wrote.

    Args:
        path: of a document of schema `bnaudit.report/1` or `bnaudit.inspect/1`.

    Raises:
        InputError: no such file, no JSON, another schema, a key that is missing or of another type,
            or the report of an audit that did not finish.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint=HINT) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return snapshot_of(_parsed(raw, str(path)), str(path))


def snapshot_of(document: Any, path: str) -> Snapshot:
    """The snapshot of a parsed document.

    Raises:
        InputError: see `read_snapshot`.
    """
    part = Part(document, path)
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise InputError(f"{path}: JSON, but not a report of bnaudit", hint=HINT)
    schema = part["schema"].text()
    read = _READERS.get(schema)
    if read is None:
        known = " or ".join(_READERS)
        raise InputError(
            f"{path}: has the schema {schema!r}, not {known}",
            hint="write both reports with the same version of bnaudit",
        )
    return read(part)


def _parsed(raw: bytes, path: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise InputError(f"{path}: not strict JSON: it has {constant}", hint=HINT)

    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=refuse)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a report: not UTF-8", hint=HINT) from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not valid JSON: {error.msg}", hint=HINT) from None
    except (RecursionError, ValueError):  # endless nesting, or a number of endless digits
        raise InputError(f"{path}: not a report: JSON of no sensible size", hint=HINT) from None


def _audit(part: Part) -> Snapshot:
    failure = part["failure"]
    if not failure.absent:
        raise InputError(
            f"{part.file}: the report of an audit that did not finish "
            f"({failure['message'].text()})",
            hint="there is nothing in it to compare with",
        )
    run = part["run"]
    return Snapshot(
        path=part.file,
        kind="audit",
        model=part["model"]["path"].text(),
        tool=part["tool"]["version"].text(),
        settings={} if run.absent else _settings(run),
        layers=tuple(_layer(layer) for layer in part["layers"].items()),
        **_judged(part),
    )


def _inspection(part: Part) -> Snapshot:
    return Snapshot(
        path=part.file,
        kind="inspection",
        model=part["model"]["path"].text(),
        tool=part["tool"]["version"].text(),
        settings={},
        layers=tuple(_stored_layer(layer) for layer in part["layers"].items()),
        **_judged(part),
    )


def _stored_layer(layer: Part) -> LayerSnapshot:
    """What a file stores is exact."""
    gain = layer["gain"]["median"].number_or_none()
    numbers = {} if gain is None else {"gain": Quantity(gain, gain, gain)}
    return LayerSnapshot(layer["name"].text(), "", _count(layer["channels"]), numbers)


_READERS: dict[str, Callable[[Part], Snapshot]] = {
    "bnaudit.report/1": _audit,
    "bnaudit.inspect/1": _inspection,
}


def _judged(part: Part) -> Any:
    return {
        "findings": tuple(_finding(entry) for entry in part["findings"].items()),
        "suppressed": tuple(_finding(entry["finding"]) for entry in part["suppressed"].items()),
        "not_judged": frozenset(entry["rule"].text() for entry in part["rules_not_run"].items()),
    }


def _count(part: Part) -> int | None:
    return None if part.absent else part.whole()


def _settings(run: Part) -> dict[str, str]:
    """What the same model would give other numbers under."""
    data = run["data"]
    paths = ", ".join(path.text() for path in data["paths"].items())
    return {
        "mode": run["mode"].text(),
        "dtype": run["dtype"].text(),
        "device": run["device"].text(),
        "seed": str(run["seed"].whole()),
        "data": paths or data["source"].text(),
        "batches": f"{data['batches'].whole()} of {data['batch_size'].whole()}",
        "loss": run["loss"]["name"].text(),
        "metrics": ", ".join(name.text() for name in run["metrics"].items()),
    }


def _layer(layer: Part) -> LayerSnapshot:
    name, call = layer["name"].text(), layer["call"].whole()
    return LayerSnapshot(
        label=name if call == 1 else f"{name}#{call}",
        kind=layer["kind"].text(),
        channels=layer["channels"].whole(),
        numbers=dict(_numbers(layer)),
    )


def _numbers(layer: Part) -> Iterator[tuple[str, Quantity]]:
    gain = layer["gain"]["batch"]["median"]
    if gain.absent:
        gain = layer["gain"]["running"]["median"]
    for name, metric in (
        ("gain", gain),
        ("reduction", layer["first_order"]["measured"]),
        ("curvature", layer["second_order"]["rayleigh"]),
    ):
        if not metric.absent:
            yield name, _over_batches(metric)
    for name in ("mean_drift", "variance_drift"):
        drift = layer["statistics"][name]
        if not drift["max"].absent and not drift["sampling_error"].absent:
            yield name, _drift(drift)


def _over_batches(metric: Part) -> Quantity:
    return Quantity(
        metric["median"].number(),
        metric["q25"].number(),
        metric["q75"].number(),
        spread_known=metric["n"].whole() > 1,
    )


def _drift(drift: Part) -> Quantity:
    """Within two sampling errors: 95 % for near-Gaussian values."""
    largest, margin = drift["max"].number(), 2 * drift["sampling_error"].number()
    return Quantity(largest, largest - margin, largest + margin)


def _finding(entry: Part) -> Finding:
    severity = entry["severity"].text()
    if severity.upper() not in Severity.__members__:
        entry["severity"].refuse("error, warning or info")
    return Finding(
        rule=entry["rule"].text(),
        name=entry["name"].text(),
        severity=Severity[severity.upper()],
        layer=entry["layer"].text_or_none(),
        message=entry["message"].text(),
        fix=entry["fix"].text(),
        observed=entry["observed"].number_or_none(),
        threshold=entry["threshold"].number_or_none(),
        channels=tuple(channel.whole() for channel in entry["channels"].items()),
        interval=_interval(entry["interval"]),
        confidence=entry["confidence"].text(),
    )


def _interval(part: Part) -> tuple[float, float] | None:
    """Half an interval is none."""
    if part.absent:
        return None
    bounds = [bound.number_or_none() for bound in part.items()]
    if len(bounds) != 2:
        part.refuse("a list of two numbers")
    low, high = bounds
    return None if low is None or high is None else (low, high)
