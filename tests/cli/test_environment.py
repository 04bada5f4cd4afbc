"""Options from the environment: which, for which commands, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnaudit.cli.check import command as check
from bnaudit.cli.diff import command as diff
from bnaudit.cli.init import command as init
from bnaudit.config.options import OPTIONS
from tests.cli.conftest import MLP, ROOT, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = MLP / "model.onnx"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_check_runs_as_if_it_had_been_typed(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DATA": str(MLP / "batch.npz"), "METRICS": "first_order", "BATCH_SIZE": "8",
        "BATCHES": "2", "FAIL_ON": "warning", "FORMAT": "json", "OUTPUT": "r.txt", "QUIET": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"BNAUDIT_{name}", value)
    outcome = cli("check", MODEL)
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.document["run"]["metrics"] == ["first_order"]
    assert outcome.document["run"]["data"]["batch_size"] == 8
    assert Path("r.txt").is_file()
    assert cli("check", MODEL, "--fail-on", "never").code == 0
    Path("r.txt").unlink()
    inspected = cli("inspect", MODEL)  # what becomes of an audit's report is none of its business
    assert inspected.out.startswith("bnaudit ")
    assert not Path("r.txt").exists()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FAIL_ON", "fatal", "BNAUDIT_FAIL_ON: 'fatal' is not one of"),
        ("BATCHES", "0", "BNAUDIT_BATCHES: '0' is neither a number of batches nor 'auto'"),
        ("SEED", "x", "BNAUDIT_SEED: 'x' is not a whole number from 0 to"),
        ("CHANNELS", "maybe", "BNAUDIT_CHANNELS: 'maybe' is neither true nor false"),
        ("MEMORY", "much", "BNAUDIT_MEMORY: 'much' is no size"),
        ("METRICS", "twin", "BNAUDIT_METRICS: no metric 'twin', did you mean 'twins'?"),
        ("METRICS", ",", "BNAUDIT_METRICS: ',' names no metric"),
        ("IGNORE", "BN101 BN177", "BNAUDIT_IGNORE: no rule 'BN177'"),
        ("INPUT_SHAPE", "8x30 4x30", "BNAUDIT_INPUT_SHAPE is given twice for the only input"),
        ("DATA", "'a", "BNAUDIT_DATA is no list as in a shell: No closing quotation"),
        ("OUTPUT", "no/r.json", "BNAUDIT_OUTPUT: no/r.json: cannot be written"),
        ("CONFIG", "no.yaml", "BNAUDIT_CONFIG is 'no.yaml': no such file"),
    ],
)
def test_a_wrong_value_names_its_variable(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"BNAUDIT_{name}", value)
    for args in (("check", MODEL), ("config",)):
        outcome = cli(*args)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.lines[0].startswith(f"error: {told}")


def test_what_is_of_one_model_or_gives_leave_is_typed(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = {option.name for option in OPTIONS if option.typed_only}
    of_one_model = {"trust", "weights", "arg", "strict", "input", "entry", "report"}
    assert never == of_one_model | {"columns", "sort", "top"}
    monkeypatch.setenv("BNAUDIT_TRUST", "1")
    monkeypatch.setenv("BNAUDIT_FAILON", "never")
    outcome = cli("inspect", MODEL)
    assert outcome.lines == [
        "note: no option is set by BNAUDIT_FAILON, did you mean 'BNAUDIT_FAIL_ON'?",
        "note: BNAUDIT_TRUST is not read: type --trust where it is meant",
    ]
    assert cli("inspect", MODEL, "-q").err == ""
    with check.make_context("check", ["model.pt2"]) as ctx:
        assert ctx.params["trust"] is False


@pytest.mark.parametrize("command", ["inspect", "init"])
def test_only_what_is_near_is_noted(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name in ("JSON", "HOME", "CACHE", "X", "UPDATE_GOLDEN"):
        monkeypatch.setenv(f"BNAUDIT_{name}", "1")
    files = [MLP / "start.pt", MODEL] if command == "init" else [MODEL]
    assert cli(command, *files, "--format", "none").err == ""
    monkeypatch.setenv("BNAUDIT_CONFG", "1")
    monkeypatch.setenv("BNAUDIT_batch_sizes", "1")
    assert cli(command, *files, "--format", "none").lines == [
        "note: no option is set by BNAUDIT_CONFG, did you mean 'BNAUDIT_CONFIG'?",
        "note: no option is set by BNAUDIT_batch_sizes, did you mean 'BNAUDIT_BATCH_SIZE'?",
    ]
    assert cli(command, *files, "--format", "none", "-q").err == ""


def test_options_of_one_command_are_typed(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {option.name for option in OPTIONS} | {"config"}
    flags = (
        p.opts[0].removeprefix("--") for c in (diff, init) for p in c.params if "--" in p.opts[0]
    )
    own = {name for name in flags if name not in shared}
    assert own == {"run", "frozen", "all", "no-run", "no-config"}
    documented = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = documented.split("## The environment")[1].split("\n## ")[0]
    for name in own:
        monkeypatch.setenv(f"BNAUDIT_{name.upper().replace('-', '_')}", "1")
        assert f"`--{name}`" in section
    told = {
        f"note: BNAUDIT_{n.upper().replace('-', '_')} is not read: type --{n} where it is meant"
        for n in own
    }
    assert set(cli("init", MLP / "start.pt", MODEL, "--format", "none").lines) == told
    assert set(cli("diff", MODEL, MODEL, "--format", "none").lines) == told


def test_a_named_configuration(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.yaml").write_text("seed: 7")
    Path("d.yaml").write_text("seed: 8")
    monkeypatch.setenv("BNAUDIT_CONFIG", "c.yaml")
    assert cli("config", "--json").document["settings"]["seed"]["value"] == 7
    typed = cli("config", "--json", "--config", "d.yaml").document
    assert typed["settings"]["seed"]["value"] == 8
    assert cli("config", "--json", "--no-config").document["settings"]["seed"]["value"] == 0
