"""docs/theory.md quotes what is measured, and docs/report.md names what is there."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bench.theory import effects, runs
from bench.theory.slips import slips
from bench.theory.text import differences
from bench.theory_numbers import TABLES, blocks, rewritten

import bnaudit
from bnaudit.judge.rules import RULES
from bnaudit.metrics import METRICS
from bnaudit.render.json_v1 import schema_text

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
READING = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8").partition("## An inspection")[0]
SCHEMA = json.loads(schema_text("report"))


def cells(name: str) -> list[list[str]]:
    """The rows of a table of docs/theory.md, without its header."""
    lines = blocks(THEORY)[name].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert len({len(row) for row in rows}) == 1
    assert set(rows[1]) == {"---"}
    return rows[2:]


# --- theory.md -----------------------------------------------------------------------------------


def test_every_table_is_there_once_and_filled() -> None:
    assert sorted(blocks(THEORY)) == sorted(TABLES)
    assert THEORY.count("<!-- numbers:begin") == THEORY.count("<!-- numbers:end -->") == len(TABLES)
    for name in TABLES:
        assert len(cells(name)) >= 2, name


@pytest.mark.parametrize("name", ["precision", "few", "own-block", "initialisation", "slips"])
def test_quick_tables_are_as_measured(name: str) -> None:
    assert differences(blocks(THEORY)[name], TABLES[name]()) == []


@pytest.mark.parametrize("net", ["digits_resnet", "tabular_mlp"])
def test_numbers_of_the_shipped_networks_are_as_measured(net: str) -> None:
    report = runs.audit("scripted.pt", net, batches=1, metrics=("first_order", "weight_space"))
    stored = {row[0]: row for row in cells("layers")}
    assert len([key for key in stored if key.startswith(net)]) == len(report.layers)
    for layer in report.layers:
        row = stored[f"{net} {layer.label}"]
        columns = {1: "m", 2: "gain_batch.median", 3: "first_order.predicted"}
        columns |= {7: "weight_space.weight_ratio", 8: "weight_space.projection"}
        for place, path in columns.items():
            fresh = layer.m if path == "m" else runs.at(layer, path)
            assert float(row[place]) == pytest.approx(fresh, rel=0.01), (layer.label, path)
        for place, path in {5: "first_order.removed_mean", 6: "first_order.removed_xhat"}.items():
            fresh = 100 * runs.at(layer, path)
            assert float(row[place].removesuffix("%")) == pytest.approx(fresh, abs=0.06)
        assert float(row[4]) < 1e-5


def test_right_formulas_are_exact_and_wrong_ones_are_not() -> None:
    for seed in range(3):
        for row in slips(seed):
            assert row.error < 1e-10 if row.right else row.error > 1e-4, row


def test_the_tests_that_are_named_exist() -> None:
    named = {tuple(row[-1].split("::")) for row in cells("slips")}
    assert named
    for file, function in named:
        (path,) = (p for p in (ROOT / "tests").rglob(file) if "render" not in p.parts)
        assert f"def {function}(" in path.read_text(encoding="utf-8")


def test_a_table_that_went_stale_is_noticed() -> None:
    stored = blocks(THEORY)["few"]
    assert differences(stored, stored) == []
    assert len(differences(stored.replace("0.333", "0.433"), stored)) == 1
    assert differences(stored, stored.replace("| 3 |", "| three |"))
    noise, other = "| a | 2e-16 |", "| a | 9e-15 |"
    assert differences(noise, other) == []
    assert differences(noise, "| a | 2e-12 |")
    assert rewritten(THEORY, {"few": stored.strip()}) == THEORY


def test_rescaling_leaves_the_function() -> None:
    net = runs.trained("tabular_mlp").double()
    base = runs.audit(net, "tabular_mlp", metrics=("first_order",))
    other = runs.audit(effects.rescaled(net, 4), "tabular_mlp", metrics=("first_order",))
    assert runs.loss(other) == pytest.approx(runs.loss(base), rel=1e-12)
    for a, b in zip(base.layers, other.layers, strict=True):
        for path, factor in {"first_order.measured": 0.25, "first_order.projection": 1.0}.items():
            assert runs.at(b, path) == pytest.approx(factor * runs.at(a, path), rel=1e-9)


@pytest.mark.parametrize("text", [THEORY, GUIDE, READING], ids=["theory", "report", "reading"])
def test_links_anchors_and_rules_exist(text: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert file.startswith("https://") or not file or (ROOT / "docs" / file).exists(), target
        page = (ROOT / "docs" / file).read_text(encoding="utf-8") if file.endswith(".md") else text
        assert not anchor or anchor in headings(page), target
    assert set(re.findall(r"BN\d{3}", text)) <= {rule.id for rule in RULES}


def headings(page: str) -> set[str]:
    """The anchors of a page."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }


def test_every_metric_is_explained() -> None:
    for name in METRICS:
        assert f"`{name}`" in THEORY


# --- report.md -----------------------------------------------------------------------------------


def known_fields(schema: Any) -> set[str]:
    """Every property name anywhere in the schema."""
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        for part in schema.values():
            found |= known_fields(part)
    elif isinstance(schema, list):
        for part in schema:
            found |= known_fields(part)
    return found


def resolved(node: Any) -> Any:
    node = next((part for part in node.get("anyOf", ()) if "$ref" in part), node)
    return SCHEMA["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def in_schema(path: str, root: Any) -> bool:
    """Whether a dotted path of properties leads somewhere from `root`."""
    node = resolved(root)
    for name in path.split("."):
        if name not in node.get("properties", {}):
            return False
        node = resolved(node["properties"][name])
    return True


def jq_examples() -> list[str]:
    return re.findall(r"^```jq\n(.*?)\n```", GUIDE, re.MULTILINE | re.DOTALL)


def test_every_field_that_is_named_exists() -> None:
    layer = SCHEMA["$defs"]["layer_report"]
    roots = dict.fromkeys(("run", "summary", "twins", "failure", "findings"), SCHEMA)
    dotted = re.findall(r"`([a-z_]\w*(?:\.\w+)+)`", GUIDE)
    paths = [p for p in dotted if not p.endswith((".json", ".md"))]
    assert len(paths) > 15
    for path in paths:
        assert in_schema(path, roots.get(path.partition(".")[0], layer)), path


@pytest.mark.parametrize("example", jq_examples())
def test_every_field_of_a_jq_example_exists(example: str) -> None:
    code = re.sub(r'"[^"]*"', lambda m: " ".join(re.findall(r"\\\((.*?)\)", m[0])), example)
    fields = set(re.findall(r"\.([a-z_]\w*)", code))
    assert fields
    assert fields <= known_fields(SCHEMA)


Report = dict[str, Any]

# The same in Python, for machines without jq.
IN_PYTHON: dict[str, Callable[[Report], list[Any]]] = {
    "@tsv": lambda r: [
        (a["name"], a["m"], a["gain"]["batch"]["median"]["median"])
        for a in r["layers"]
        if a["first_order"]["measured"]["median"] > 0
    ],
    "measured == null": lambda r: [a for a in r["layers"] if a["first_order"]["measured"] is None],
    "worst_residual": lambda r: [r["summary"]["worst_residual"]["fraction"]],
    "dead:": lambda r: [
        (a["statistics"]["dead_gradient"], a["statistics"]["leak"]["max"]["median"])
        for a in r["layers"]
    ],
    "variance_drift.lower": lambda r: [
        a["name"] for a in r["layers"] if a["statistics"]["variance_drift"]["lower"] > 1
    ],
    "feeder:": lambda r: [
        a["weight_space"]["feeder"]
        for a in r["layers"]
        if a["weight_space"]["weight_ratio"]["median"]
        < 0.8 * a["first_order"]["measured"]["median"]
    ],
    "max_by": lambda r: [
        max(t["parameters"], key=lambda p: p["twin_grad_norm"] / p["grad_norm"])["name"]
        for t in r["twins"]["entries"]
    ],
    "exit_code": lambda r: [
        r["summary"]["exit_code"],
        *(f["message"] for f in r["findings"] if f["severity"] == "error"),
    ],
}


@pytest.fixture(scope="module")
def report() -> str:
    folder = ROOT / "fixtures" / "digits_resnet"
    options: dict[str, Any] = {"data": str(folder / "batch.npz"), "metrics": tuple(METRICS)}
    return bnaudit.audit(folder / "scripted.pt", **options).to_json()


def test_the_examples_have_their_counterparts() -> None:
    examples = jq_examples()
    assert len(examples) == len(IN_PYTHON)
    for example, mark in zip(examples, IN_PYTHON, strict=True):
        assert mark in example


@pytest.mark.parametrize("place", range(len(IN_PYTHON)))
def test_examples_give_what_they_say(place: int, report: str) -> None:
    expected = list(IN_PYTHON.values())[place](json.loads(report))
    if place in {0, 3}:
        assert len(expected) == 10
    if place in {2, 5, 6}:
        assert expected
    jq = shutil.which("jq")
    if jq is None:
        return
    command = [jq, "-c", jq_examples()[place]]
    done = subprocess.run(command, input=report, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    if place == 2:
        assert math.isclose(float(lines[0]), expected[0])
    if place == 6:
        assert [json.loads(line)["most"] for line in lines] == expected
