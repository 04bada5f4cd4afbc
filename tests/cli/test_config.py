"""Configuration through the command line: precedence, origins, suppression, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from bnaudit.config.options import KEYS
from tests.cli.conftest import MLP, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = MLP / "model.onnx"
FEW = f"data: {MLP / 'batch.npz'}\nbatch-size: 8\nbatches: 2\nmetrics: first_order\n"
"""Eight rows a batch: BN102 (a warning) finds too few values."""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "bnaudit.yaml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def test_the_file_sets_what_is_not_typed(cli: Callable[..., Outcome]) -> None:
    write(FEW + "fail-on: warning\nformat: json\noutput: [report.txt]")
    outcome = cli("check", MODEL)
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.document["run"]["metrics"] == ["first_order"]
    assert outcome.document["run"]["data"]["batch_size"] == 8
    assert Path("report.txt").read_text().startswith("bnaudit ")
    typed = cli("check", MODEL, "--fail-on", "error", "--batches", 1)
    assert (typed.code, typed.document["run"]["data"]["batches"]) == (0, 1)
    none = cli("check", MODEL, "--no-config", "--batches", 1, "-m", "first_order")
    assert none.code == 0
    assert none.out.startswith("bnaudit ")


def test_findings_are_suppressed_graded_and_counted(cli: Callable[..., Outcome]) -> None:
    write(FEW + "fail-on: warning\nformat: json\nignore: few-values")
    outcome = cli("check", MODEL)
    assert outcome.code == 0
    (silent,) = outcome.document["suppressed"]
    assert (silent["finding"]["rule"], silent["by"]) == ("BN102", "ignore: few-values")
    assert "BN102" not in {f["rule"] for f in outcome.document["findings"]}
    typed = cli("check", MODEL, "--ignore", "BN014,BN103")
    assert (typed.code, [f["rule"] for f in typed.document["findings"]]) == (1, ["BN102"])
    write(FEW + "format: json\nseverity: {BN1: info}")
    assert cli("check", MODEL).document["findings"][0]["severity"] == "info"


def test_a_pattern_that_fits_no_layer_is_told(cli: Callable[..., Outcome]) -> None:
    write(FEW + "format: json\nper-layer: {bn1: {ignore: BN1}, 'haed.*': {ignore: BN1}}")
    notes = cli("check", MODEL).document["run"]["notes"]
    assert [n for n in notes if "per-layer" in n] == [
        "the configuration's per-layer pattern 'haed.*' fits no layer"
    ]


def test_typed_lists_of_rules(cli: Callable[..., Outcome]) -> None:
    write(FEW + "fail-on: warning\nselect: [BN101]")
    assert cli("check", MODEL).code == 0
    assert cli("check", MODEL, "--select", "BN101", "--select", "BN103,few-values").code == 1
    outcome = cli("check", MODEL, "--select", "BN177")
    assert outcome.code == 2
    assert "no rule 'BN177', did you mean 'BN" in outcome.lines[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\nfail_on: x", "bnaudit.yaml:2: unknown key 'fail_on', did you mean 'fail-on'?"),
        ("output: report.pdf", "bnaudit.yaml:1: output: report.pdf: the suffix says no format"),
        ("\noutput: no/r.json", "bnaudit.yaml:2: output: no/r.json: cannot be written"),
        ("input-shapes: {'a:b': 0x3}", "bnaudit.yaml:1: input-shapes.a:b has to be a shape"),
    ],
)
def test_errors_are_one_line_with_the_place(
    cli: Callable[..., Outcome], text: str, line: str
) -> None:
    write(text)
    for args in (("check", MODEL), ("config",)):
        outcome = cli(*args)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.lines[0].startswith(f"error: {line}")
        assert [known.split(":")[0] for known in outcome.lines[1:]] == ["hint"]
    assert cli("check", "--help").code == 0


def test_config_says_where_each_value_comes_from(cli: Callable[..., Outcome]) -> None:
    write("fail-on: warning\nper-layer:\n  head.*: {ignore: BN101}\n")
    write("[tool.bnaudit]\nseed = 1", "pyproject.toml")
    outcome = cli("config", "--seed", 3, "--input-shape", "8x30", "--json")
    assert outcome.lines == ["note: bnaudit.yaml is read, pyproject.toml is not"]
    document = outcome.document
    assert document["schema"] == "bnaudit.config/1"
    assert list(document["settings"]) == list(KEYS)
    told = {key: (s["value"], s["origin"]) for key, s in document["settings"].items()}
    assert told["seed"] == (3, "command line")
    assert told["fail-on"] == ("warning", "bnaudit.yaml:1")
    assert told["input-shapes"] == ("8x30", "command line")
    assert told["mode"] == ("batch", "default")
    text = cli("config", "--seed", 3, "-q")
    assert text.err == ""
    assert text.out.splitlines()[0].endswith(
        " uses here: options, then the environment, then the file, then defaults."
    )
    assert yaml.safe_load(text.out)["per-layer"] == {"head.*": {"ignore": ["BN101"]}}
    assert any(
        "ignore: [BN101]" in line and line.endswith("# bnaudit.yaml:3")
        for line in text.out.splitlines()
    )


def test_what_config_prints_means_the_same(cli: Callable[..., Outcome]) -> None:
    write(FEW + "fail-on: warning\nverify-gradients: all\nseverity: {BN1: info}")
    before = cli("config", "--json").document
    write(cli("config").out)
    after = cli("config", "--json").document
    values = [{k: s["value"] for k, s in d["settings"].items()} for d in (before, after)]
    assert values[0] == values[1]


def test_a_file_from_above_is_read_in_the_repository(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".git").mkdir()
    Path("sub").mkdir()
    write("data: batch.npz\nlabels: y")
    monkeypatch.chdir("sub")
    settings = cli("config", "--json").document["settings"]
    assert settings["data"] == {"value": ["../batch.npz"], "origin": "../bnaudit.yaml:1"}


def test_typed_data_is_meant_instead_of_the_shapes_of_the_file(
    cli: Callable[..., Outcome],
) -> None:
    write("input-shapes: 8x30\nmetrics: first_order\nbatches: 1\nformat: none")
    assert cli("check", MODEL, "--data", MLP / "batch.npz").code == 0
    write(FEW.replace("8\n", "16\n") + "format: none")
    assert cli("check", MODEL, "--input-shape", "16x30").code == 0
    refused = cli("check", MODEL, "--data", MLP / "batch.npz", "--input-shape", "8x30")
    assert "the data has shapes of its own" in refused.lines[0]


@pytest.mark.parametrize(
    "flags", [["--config", "c.yaml", "--no-config"], ["--no-config", "--config", "c.yaml"]]
)
def test_a_file_and_none_exclude_each_other(cli: Callable[..., Outcome], flags: list[str]) -> None:
    write("seed: 1", "c.yaml")
    outcome = cli("config", *flags)
    assert (outcome.code, "exclude each other" in outcome.lines[0]) == (2, True)
    assert cli("config", "--config", "no.yaml").lines[0] == "error: no.yaml: no such file"


def test_options_that_check_does_not_have_are_refused(cli: Callable[..., Outcome]) -> None:
    outcome = cli("config", "--sed", 3)
    assert outcome.code == 2
    assert "No such option '--sed'" in outcome.lines[0]


def test_the_schema_for_editors(cli: Callable[..., Outcome]) -> None:
    schema = json.loads(cli("schema", "config").out)
    assert schema["title"] == "bnaudit.yaml"
    assert set(schema["properties"]) == set(KEYS)
