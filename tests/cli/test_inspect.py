"""`bnaudit inspect`: exit codes, streams, formats, bad files, hostile names, many layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator

import bnaudit
from bnaudit.render.json_v1 import schema_text
from tests.cli.conftest import MLP, RESNET, Outcome, shell
from tests.load.onnx import models
from tests.load.onnx.test_errors import external

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cli = Callable[..., Outcome]

VALIDATOR = Draft202012Validator(json.loads(schema_text("inspect")))
DYNAMO, FOLDED = RESNET / "dynamo.onnx", RESNET / "folded.onnx"


def document(outcome: Outcome) -> Any:
    VALIDATOR.validate(outcome.document)
    return outcome.document


def test_a_healthy_file(cli: Cli) -> None:
    outcome = cli("inspect", DYNAMO)
    assert (outcome.code, outcome.err) == (0, "")
    assert "10 layers" in outcome.out
    assert outcome.verdict.startswith("PASS: 10 BatchNorm layers read, nothing was run")


def test_the_json_has_every_layer(cli: Cli) -> None:
    outcome = cli("inspect", DYNAMO, "--format", "json")
    found = document(outcome)
    assert outcome.err == ""
    assert found["summary"]["layers"] == len(found["layers"]) == 10
    assert found["absence"] is None
    assert all(layer["channel_values"] is None for layer in found["layers"])
    assert found["layers"][0]["name"] == "bn1"
    assert found["layers"][0]["feeder"]["operator"] == "Conv"


def test_channels(cli: Cli) -> None:
    layer = document(cli("inspect", DYNAMO, "--format", "json", "--channels"))["layers"][0]
    values = layer["channel_values"]
    gain = np.abs(values["gamma"]) / np.sqrt(np.array(values["running_var"]) + layer["eps"])
    np.testing.assert_allclose(values["gain"], gain, rtol=1e-12)
    assert layer["gain"]["median"] == pytest.approx(np.median(gain), rel=1e-12)
    assert layer["gain"]["fraction_le_1"] == np.mean(gain <= 1)


def test_no_batchnorm_is_exit_3_and_says_why(cli: Cli) -> None:
    outcome = cli("inspect", FOLDED)
    assert (outcome.code, outcome.err) == (3, "")
    assert "BN001" in outcome.out
    assert "folded into the weights" in outcome.out
    assert "(x,), path, dynamo=True, optimize=False)" in " ".join(outcome.out.split())
    assert outcome.verdict.startswith("NOTHING TO AUDIT (exit 3)")


def test_no_batchnorm_in_json_is_told_on_stderr_too(cli: Cli) -> None:
    outcome = cli("inspect", FOLDED, "--format", "json")
    found = document(outcome)
    assert outcome.code == found["summary"]["exit_code"] == 3
    assert found["absence"]["case"] == "folded"
    assert found["findings"][0]["fix"] == found["absence"]["fix"]
    assert [line.partition(":")[0] for line in outcome.lines] == ["error", "hint"]


def test_no_batchnorm_may_be_allowed(cli: Cli) -> None:
    outcome = cli("inspect", FOLDED, "--allow-no-bn", "--format", "json")
    assert outcome.code == 0
    assert outcome.err == ""
    assert document(outcome)["findings"][0]["severity"] == "info"
    assert cli("inspect", FOLDED, "--allow-no-bn").verdict.startswith("PASS (--allow-no-bn)")


@pytest.mark.parametrize(("fail_on", "code"), [("warning", 1), ("error", 0), ("never", 0)])
def test_fail_on(cli: Cli, tmp_path: Path, fail_on: str, code: int) -> None:
    outcome = cli("inspect", partly_folded(tmp_path), "--fail-on", fail_on)
    assert outcome.code == code
    assert "BN003" in outcome.out
    assert outcome.verdict.startswith("FAIL" if code else "PASS")


def partly_folded(folder: Path) -> Path:
    """A BatchNorm, and a convolution whose output has the name of another."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w", "b"], ["/bn1/BatchNormalization_output_0"]),
        models.batchnorm("/bn1/BatchNormalization_output_0", "y", "bn2"),
    ]
    constants = models.batchnorm_constants("bn2", 3)
    constants |= {"w": models.normal(3, 3, 1, 1), "b": models.normal(3)}
    return models.save(folder, models.graph_model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants))


def test_both_commands_say_the_same_of_a_file(cli: Cli, tmp_path: Path) -> None:
    for path in (FOLDED, partly_folded(tmp_path)):
        read = document(cli("inspect", path, "--format", "json"))
        run = cli("check", path, "--format", "json", "--metrics", "first_order").document
        told = [f for f in run["findings"] if f["rule"] in {"BN001", "BN003"}]
        assert told == [f for f in read["findings"] if f["rule"] in {"BN001", "BN003"}] != []


@pytest.mark.parametrize(
    ("op", "domain"),
    [
        ("FusedConv", "com.microsoft"),
        ("Quant", "qonnx.custom_op.general"),
        ("QuickGelu", "com.microsoft"),
        ("Unheard", "my.own"),
    ],
)
def test_absence_is_judged_before_conversion(
    cli: Cli, tmp_path: Path, op: str, domain: str
) -> None:
    """An operator that cannot be converted hides nothing where there is nothing to run for."""
    conv = onnx.helper.make_node("Conv", ["x", "w", "b"], ["z"], name="conv")
    inputs = ["z", "w", "b"] if op == "FusedConv" else ["z"]
    other = onnx.helper.make_node(op, inputs, ["y"], name="other", domain=domain)
    constants = {"w": models.normal(3, 3, 1, 1), "b": models.normal(3)}
    model = models.graph_model([conv, other], {"x": ["n", 3, 4, 4]}, ["y"], constants)
    model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    path = models.save(tmp_path, model)
    read, run = cli("inspect", path, "--format", "json"), cli("check", path, "--format", "json")
    assert (read.code, run.code) == (3, 3)
    found = [[f for f in o.document["findings"] if f["rule"] == "BN001"] for o in (read, run)]
    assert found[0] == found[1] != []
    (note,) = run.document["model"]["notes"]
    assert op in note
    assert bnaudit.audit(path).exit_code == 3


def test_with_batchnorm_such_an_operator_still_stops_a_check(cli: Cli, tmp_path: Path) -> None:
    nodes = [
        models.batchnorm("x", "z", "bn"),
        onnx.helper.make_node("Unheard", ["z"], ["y"], name="other", domain="my.own"),
    ]
    constants = models.batchnorm_constants("bn", 3)
    model = models.graph_model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants)
    model.opset_import.append(onnx.helper.make_opsetid("my.own", 1))
    path = models.save(tmp_path, model)
    assert cli("inspect", path).code == 0
    outcome = cli("check", path)
    assert outcome.code == 2
    assert "Unheard" in outcome.lines[0]


def test_layers(cli: Cli) -> None:
    found = document(cli("inspect", DYNAMO, "--layers", "layer1.*", "--format", "json"))
    assert {layer["name"].partition(".")[0] for layer in found["layers"]} == {"layer1"}
    outcome = cli("inspect", DYNAMO, "--layers", "stage*")
    assert outcome.code == 2
    assert outcome.lines[0] == "error: --layers 'stage*' matches none of the 10 layers"
    assert outcome.lines[1].startswith("hint: the layers are: bn1, ")


def test_reports_go_to_files(cli: Cli, tmp_path: Path) -> None:
    outputs = [tmp_path / "r.json", tmp_path / "r.txt"]
    outcome = cli("inspect", DYNAMO, "-o", outputs[0], "-o", outputs[1], "--format", "none")
    assert (outcome.code, outcome.out) == (0, "")
    VALIDATOR.validate(json.loads(outputs[0].read_text()))
    assert outputs[1].read_text(encoding="utf-8").startswith("bnaudit ")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "an HTML or XML page"),
        (b"hello, world", "not a model file"),
        (b"PK\x03\x04nothing", "damaged or cut-off zip"),
    ],
)
def test_no_model_at_all(cli: Cli, tmp_path: Path, content: bytes, fact: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(cli("inspect", path), path, fact)


def refused(outcome: Outcome, path: Path, fact: str) -> None:
    assert (outcome.code, outcome.out) == (2, "")
    assert [line.partition(":")[0] for line in outcome.lines] == ["error", "hint"]
    assert f"{path}: " in outcome.lines[0]
    assert fact in outcome.lines[0]


def test_no_file_and_a_folder(cli: Cli, tmp_path: Path) -> None:
    refused(cli("inspect", tmp_path / "none.onnx"), tmp_path / "none.onnx", "no such file")
    refused(cli("inspect", tmp_path), tmp_path, "a folder without a model file")


def test_no_nodes(cli: Cli, tmp_path: Path) -> None:
    path = models.save(tmp_path, models.graph_model([], {"x": [1]}, ["x"]))
    refused(cli("inspect", path), path, "has no nodes")


def test_cut_off(cli: Cli, tmp_path: Path) -> None:
    content = DYNAMO.read_bytes()
    for size in range(8, len(content), len(content) // 40):
        path = tmp_path / "cut.onnx"
        path.write_bytes(content[:size])
        refused(cli("inspect", path), path, "")


def test_an_unknown_ir_version_is_no_obstacle(cli: Cli, tmp_path: Path) -> None:
    path = models.one_batchnorm(tmp_path, ir_version=99)
    assert (
        document(cli("inspect", path, "--format", "json"))["model"]["facts"]["ir_version"] == "99"
    )


@pytest.mark.parametrize(
    ("location", "entries", "fact"),
    [
        ("gone.bin", {}, "cannot be read"),
        ("../weights.bin", {}, "outside the model's folder"),
        ("/etc/passwd", {}, "outside the model's folder"),
        ("", {}, "outside the model's folder"),
        ("weights.bin", {"offset": "-4"}, "no valid offset"),
        ("weights.bin", {"offset": "8"}, "are cut off"),
        ("weights.bin", {"length": "4"}, "does not hold what its type and shape say"),
    ],
)
def test_external_weights_that_cannot_be_read(
    cli: Cli, tmp_path: Path, location: str, entries: dict[str, str], fact: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder, location, **entries)
    refused(cli("inspect", path), path, fact)
    (tmp_path / "weights.bin").write_bytes(b"secret" * 9)
    refused(cli("inspect", path), path, fact)


def test_external_weights_behind_a_link_are_refused(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret" * 9)
    path = external(folder, "weights.bin")
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    refused(cli("inspect", path), path, "outside the model's folder")


def test_external_weights_are_read_and_counted(cli: Cli, tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin", offset="0", length="12")
    found = document(cli("inspect", path, "--format", "json"))
    assert found["model"]["size"] == path.stat().st_size + 12
    assert found["layers"][0]["gain"]["not_finite"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_broken_statistics_are_shown(cli: Cli, tmp_path: Path, value: float) -> None:
    variance = np.array([1.0, value, 2.0], np.float32)
    path = models.one_batchnorm(tmp_path, changes={"bn.running_var": variance})
    (layer,) = document(cli("inspect", path, "--format", "json", "--channels"))["layers"]
    assert layer["gain"]["not_finite"] == (0 if value == 0 else int(value != np.inf))
    outcome = cli("inspect", path)
    assert ("not finite in 1 of 3 channels" in outcome.out) is bool(layer["gain"]["not_finite"])


HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "[bold]markup[/]",
    "new\nline",
    "\u202eevil",
    "a" * 500,
    "図層",
    "",
]


@pytest.mark.parametrize("width", [60, 100, 140])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_hostile_names(tmp_path: Path, width: int, encoding: str) -> None:
    nodes: list[Any] = []
    constants: dict[str, Any] = {}
    for place, name in enumerate(HOSTILE):
        nodes.append(models.batchnorm(f"v{place}" if place else "x", f"v{place + 1}", name))
        constants |= models.batchnorm_constants(name, 3, place)
    proto = models.graph_model(
        nodes,
        {"x": ["n\x1b[2J", 3]},
        [f"v{len(nodes)}"],
        constants,
        producer_name="\x1b]0;owned\x07",
    )
    path = models.save(tmp_path, proto)
    env = {"COLUMNS": str(width), "PYTHONIOENCODING": encoding}
    outcome = shell(f"$BN inspect {path}", **env)
    assert (outcome.code, outcome.err) == (0, "")
    assert "\x1b" not in outcome.out
    assert "\u202e" not in outcome.out
    assert "[bold]markup[/]" in outcome.out
    assert outcome.out.isascii() or encoding == "utf-8"
    assert max(len(line) for line in outcome.out.splitlines()) <= width
    printed = shell(f"$BN inspect {path} --format json", **env)
    names = [layer["name"] for layer in document(printed)["layers"]]
    assert len(set(names)) == len(HOSTILE)


def test_thousands_of_layers(cli: Cli, tmp_path: Path) -> None:
    count = 2000
    nodes = [
        models.batchnorm(f"v{i}" if i else "x", f"v{i + 1}", "bn", f"n{i}") for i in range(count)
    ]
    for place, node in enumerate(nodes):
        node.input[3] = f"mean{place}"
    means = {f"mean{i}": np.zeros(3, np.float32) for i in range(count)}
    constants = models.batchnorm_constants("bn", 3) | means
    path = models.save(
        tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, [f"v{count}"], constants)
    )
    outcome = cli("inspect", path)
    assert outcome.code == 0
    assert f"{count} layers" in outcome.out
    assert len(outcome.out.splitlines()) > count


def test_files_are_told_apart_by_content(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "model.pt"
    other.write_bytes(DYNAMO.read_bytes())
    assert document(cli("inspect", other, "--format", "json"))["model"]["kind"] == "onnx"


def test_a_reader_that_leaves_is_no_error() -> None:
    outcome = shell(f"$BN inspect {DYNAMO} --format json | head -1; exit ${{PIPESTATUS[0]}}")
    assert (outcome.code, outcome.out, outcome.err) == (0, "{\n", "")


def test_from_python() -> None:
    import bnaudit

    report = bnaudit.inspect(MLP / "model.onnx")
    assert report.exit_code == 0
    assert report.to_table(width=80).startswith("bnaudit ")
    VALIDATOR.validate(json.loads(report.to_json(channels=True)))
