"""What `bnaudit config` prints reads back as the same configuration: typed, and from the environment."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnaudit.cli.commands import cli
from bnaudit.config.data_kinds import Images, Names
from bnaudit.config.kinds import (
    Batches,
    Flag,
    Kind,
    LayerCount,
    Outputs,
    Shapes,
    Size,
    StdoutFormat,
    Texts,
    Whole,
    Word,
    Words,
)  # fmt: skip
from bnaudit.config.loss_kinds import Values
from bnaudit.config.options import KEYS, Option
from bnaudit.config.rule_kinds import FailOn, Rules

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
) | st.sampled_from(["no", "~", "1e-3", "# x", "a: b", "'", '"', "*.bn", "a=b", "x\x1b[31m", "-"])
SHAPE = st.lists(st.integers(1, 99), min_size=1, max_size=4).map(lambda s: "x".join(map(str, s)))
NAME = TEXT.filter(lambda text: "=" not in text)
IMAGES = st.sampled_from(
    ["size=256", "crop=224x192", "mean=imagenet", "std=0.2,0.3,1e-1", "channels=bgr", "range=255"]
)
FILES = st.sampled_from(["r.json", "json=r.log", "junit=a b.log", "x.sarif.json", "R.TXT", "md.md"])
VALUES = st.sampled_from(
    [
        "ignore_index=255",
        "class_weights=[1, 2.5, 1e-3]",
        "zero_infinity=true",
        "reduction='no'",
        "a= 1e-3",
    ]
)
RULES = st.sampled_from(["BN101", "few-values", "BN1", "BN101,integrity"])


def one_of(kind: Any) -> st.SearchStrategy[str]:
    """Texts that may be typed for a kind."""
    strategies: dict[type[Kind], Any] = {
        Kind: lambda: TEXT,
        Texts: lambda: TEXT,
        Batches: lambda: st.just("auto") | st.integers(1, 10**6).map(str),
        LayerCount: lambda: st.just("all") | st.integers(0, 10**6).map(str),
        Size: lambda: st.sampled_from(["500MB", "1.5GiB", "7", " 2 gb "]),
        Shapes: lambda: SHAPE | st.tuples(TEXT, SHAPE).map(":".join),
        Names: lambda: st.tuples(NAME, TEXT).map("=".join),
        Images: lambda: IMAGES,
        Outputs: lambda: FILES,
        Values: lambda: VALUES,
        Rules: lambda: RULES,
        Whole: lambda: st.integers(kind.least, kind.most or 10**9).map(str),
        Words: lambda: (
            st.just("all") | st.lists(st.sampled_from(kind.known), min_size=1).map(",".join)
        ),
    }
    if isinstance(kind, Word):
        assert type(kind) in {Word, StdoutFormat, FailOn}
        return st.sampled_from(kind.known)
    found: st.SearchStrategy[str] = strategies[type(kind)]()
    return found


def given_for(option: Option) -> st.SearchStrategy[list[str]]:
    """What may be typed after one option; for a flag nothing."""
    if isinstance(option.kind, Flag):
        return st.just([])
    most = 3 if option.kind.repeated else 1
    unique: Any = str
    if isinstance(option.kind, Shapes):
        unique = lambda text: text.rpartition(":")[0]  # noqa: E731
    elif isinstance(option.kind, (Names, Values)):
        unique = lambda text: text.partition("=")[0]  # noqa: E731
    return st.lists(one_of(option.kind), min_size=1, max_size=most, unique_by=unique)


TYPED = {key: option for key, option in KEYS.items() if option.parameter is not None}
SETTINGS = st.fixed_dictionaries({}, optional={k: given_for(o) for k, o in TYPED.items()})


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(*args: str, **env: str) -> str:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("BNAUDIT_")}
    with mock.patch.dict(os.environ, {**plain, **env}, clear=True):
        done = CliRunner().invoke(cli, ["config", *args], catch_exceptions=False)
    assert done.exit_code == 0, (args, env, done.output)
    return done.stdout


def values(document: str) -> dict[str, Any]:
    return {key: entry["value"] for key, entry in json.loads(document)["settings"].items()}


def typed(chosen: dict[str, list[str]]) -> list[str]:
    args = []
    for key, texts in chosen.items():
        name = TYPED[key].name
        flag = isinstance(TYPED[key].kind, Flag)
        args += [f"--{name}"] if flag else [f"--{name}={text}" for text in texts]
    return args


def variables(chosen: dict[str, list[str]]) -> dict[str, str]:
    """Shell quoting, in which a quote stands in the quotes of the other sort."""

    def quoted(text: str) -> str:
        return "".join(f'"{c}"' if c == "'" else f"'{c}'" for c in text)

    found = {}
    for key, texts in chosen.items():
        option = TYPED[key]
        joined = " ".join(map(quoted, texts)) if option.kind.repeated else "".join(texts)
        found[str(option.variable)] = "1" if isinstance(option.kind, Flag) else joined
    return found


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SETTINGS)
def test_what_is_printed_reads_back(chosen: dict[str, list[str]]) -> None:
    Path("bnaudit.yaml").unlink(missing_ok=True)
    document = printed("--json", "-q", *typed(chosen))
    effective, told = values(document), json.loads(document)["settings"]
    assert {key for key in told if told[key]["origin"] == "command line"} == set(chosen)
    assert effective == values(printed("--json", "-q", **variables(chosen)))
    for text in (printed("-q", *typed(chosen)), printed("-q", **variables(chosen))):
        Path("bnaudit.yaml").write_text(text, encoding="utf-8")
        assert values(printed("--json", "-q")) == effective
        assert values(printed("--json", "-q", "--config", "bnaudit.yaml")) == effective
    Path("bnaudit.yaml").unlink()


@pytest.mark.parametrize("key", ["verify-gradients", "verify-second-order"])
def test_all_layers_are_written_as_all(key: str) -> None:
    assert values(printed("--json", f"--{key}", "all"))[key] == "all"
    Path("bnaudit.yaml").write_text(printed(f"--{key}", "all"))
    assert values(printed("--json"))[key] == "all"


def test_typed_data_drops_the_shapes_of_the_file_from_what_is_printed() -> None:
    Path("bnaudit.yaml").write_text("input-shapes: 8x30")
    document = json.loads(printed("--json", "--data", "b.npz"))["settings"]
    assert document["input-shapes"] == {"value": {}, "origin": "not beside what is nearer"}
    assert document["data"] == {"value": ["b.npz"], "origin": "command line"}
    typed_shapes = json.loads(printed("--json", "--input-shape", "4x30", BNAUDIT_DATA="b.npz"))
    assert typed_shapes["settings"]["data"]["value"] == []
    assert values(printed("--json", BNAUDIT_DATA="b.npz"))["input-shapes"] == {}


def test_nearest_wins_and_each_origin_is_told() -> None:
    Path("bnaudit.yaml").write_text("fail-on: info\nseed: 1\nbatches: 1\n")
    settings = json.loads(
        printed("--json", "--seed=3", BNAUDIT_SEED="2", BNAUDIT_BATCHES="2", BNAUDIT_DEVICE="")
    )["settings"]
    told = {key: (entry["value"], entry["origin"]) for key, entry in settings.items()}
    assert told["seed"] == (3, "command line")
    assert told["batches"] == (2, "BNAUDIT_BATCHES")
    assert told["fail-on"] == ("info", "bnaudit.yaml:1")
    assert told["device"] == ("cpu", "default")


def test_lists_are_parted_as_in_a_shell() -> None:
    found = values(printed("--json", BNAUDIT_DATA=f"a.npz {shlex.quote('my b.npz')} c\\d.npz"))
    assert found["data"] == ["a.npz", "my b.npz", "c\\d.npz"]
