"""What a fleet consists of: patterns, folders, lists, checkpoints times a factory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bnaudit.errors import BnauditError, ConfigError, UsageError
from bnaudit.fleet.contents import entry_of
from bnaudit.fleet.entries import read_entries
from tests.cli.conftest import MLP, RESNET


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo" / "deep").mkdir(parents=True)
    for name, source in {
        "zoo/b.onnx": MLP / "model.onnx",
        "zoo/a.pt": MLP / "scripted.pt",
        "zoo/state.pt": MLP / "state_dict.pt",
        "zoo/deep/c.onnx": RESNET / "dynamo.onnx",
    }.items():
        shutil.copy(source, name)
    (tmp_path / "zoo" / "notes.txt").write_text("hello")
    return tmp_path


def rows(*sources: str, **given: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(task.model, dict(task.own)) for task in read_entries(sources, given)[0]]


def test_models_patterns_and_folders(folder: Path) -> None:
    assert rows("zoo/b.onnx") == [("zoo/b.onnx", {})]
    assert rows("zoo/*.onnx") == [("zoo/b.onnx", {})]
    assert [m for m, _ in rows("zoo/**/*.onnx")] == ["zoo/b.onnx", "zoo/deep/c.onnx"]
    tasks, notes = read_entries(["zoo"], {})
    assert [task.model for task in tasks] == ["zoo/a.pt", "zoo/b.onnx", "zoo/deep/c.onnx"]
    assert notes == [
        "zoo: 1 files that hold weights or no model are left out; weights need "
        "package.module:factory --weights"
    ]


def test_a_name_with_a_bracket_is_a_file_where_there_is_one(folder: Path) -> None:
    Path("zoo/b.onnx").rename("zoo/[b].onnx")
    assert rows("zoo/[b].onnx") == [("zoo/[b].onnx", {})]


def test_a_missing_model_is_an_entry_and_its_row_will_say_so(folder: Path) -> None:
    assert rows("zoo/none.onnx") == [("zoo/none.onnx", {})]


@pytest.mark.parametrize("source", ["zoo/*.bin", "empty", "none.csv"])
def test_nothing_found_is_an_error(folder: Path, source: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(BnauditError, match=r"no file matches|no model file|cannot be read"):
        rows(source)


def test_checkpoints_times_a_factory(folder: Path) -> None:
    for n in (2, 1):
        shutil.copy(MLP / "state_dict.pt", f"run{n}.pt")
    found = rows("nets.py:Mlp", weights="run*.pt")
    assert found == [("nets.py:Mlp", {"weights": f"run{n}.pt"}) for n in (1, 2)]
    assert [own["weights"] for _, own in rows("nets.py:Mlp", weights="zoo")] == [
        "zoo/a.pt", "zoo/b.onnx", "zoo/state.pt", "zoo/deep/c.onnx",
    ]  # fmt: skip
    assert rows("nets.py:Mlp", weights="run1.pt") == [("nets.py:Mlp", {})]


def test_the_same_entry_is_audited_once(folder: Path) -> None:
    tasks, notes = read_entries(["zoo/b.onnx", "zoo/*.onnx"], {})
    assert len(tasks) == 1
    assert "named more than once" in notes[-1]


YAML = """\
models:
  - ../zoo/b.onnx
  - model: ../zoo/*.pt
    data: [x.npz, mask=y.npz]
    batch-size: 4
    labels: y
  - model: package.nets:resnet
    weights: w.pt
    arg: {depth: 18, name: '18'}
    strict: false
    input-shape: {x: [4, 3, 8, 8]}
    loss: loss.py:focal
    timeout: 60
    max-memory: 2GB
"""
CSV = """\
model,data,batch-size,labels,weights,arg,strict,input-shape,loss,timeout,max-memory
../zoo/b.onnx,,,,,,,,,,
../zoo/*.pt,x.npz mask=y.npz,4,y,,,,,,,
package.nets:resnet,,,,w.pt,depth=18 name='18',false,x:4x3x8x8,loss.py:focal,60,2GB
"""


@pytest.mark.parametrize(("name", "text"), [("l.yaml", YAML), ("l.csv", CSV), ("l.YML", YAML)])
def test_lists_say_the_same_in_both_syntaxes(folder: Path, name: str, text: str) -> None:
    Path("lists").mkdir()
    Path("lists", name).write_text(text)
    data = {"data": ("lists/x.npz", "mask=lists/y.npz"), "batch_size": 4, "labels": "y"}
    network = {
        "weights": "lists/w.pt",
        "kwargs": {"depth": "18", "name": "18"},
        "strict": False,
        "input_shapes": {"x": "4x3x8x8"},
        "loss": "lists/loss.py:focal",
        "timeout": 60,
        "max_memory": "2GB",
    }
    assert rows(f"lists/{name}") == [
        ("zoo/b.onnx", {}),
        ("zoo/a.pt", data),
        ("zoo/state.pt", data),
        ("package.nets:resnet", network),
    ]


def test_a_list_of_names_alone(folder: Path) -> None:
    Path("l.yaml").write_text("- zoo/b.onnx\n- zoo/none.onnx\n")
    assert rows("l.yaml") == [("zoo/b.onnx", {}), ("zoo/none.onnx", {})]


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("l.yaml", "- model: a\n  bach-size: 3", "l.yaml:2: unknown key 'bach-size', did you mean"),
        ("l.yaml", "- model: a\n  trust: true", "l.yaml:2: unknown key 'trust'"),
        ("l.yaml", "- model: a\n  batches: -1", "l.yaml:2: batches has to be"),
        ("l.yaml", "- data: a", "l.yaml:1: a row without a model"),
        ("l.yaml", "models: 3", "has to be a list"),
        ("l.yaml", "- 3", "l.yaml:1: a row has to be a model"),
        ("l.yaml", "- [", "not valid YAML"),
        ("l.csv", "data\nx", "l.csv:1: the first line has to name the columns"),
        ("l.csv", "model,batches\na,x", "l.csv:2: batches has to be"),
        ("l.csv", "model,device\na,cpu,b", "l.csv:2: 3 cells below 2 names"),
        ("l.csv", "model,data\na,\"'x\"", "l.csv:2: No closing quotation"),
        ("l.csv", "model,metrics\na,none", "l.csv:2: unknown metrics 'none'"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_an_error_with_its_line(
    folder: Path, name: str, text: str, fact: str
) -> None:
    Path(name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        rows(name)
    assert fact in caught.value.message


def test_a_large_list_is_no_configuration(folder: Path) -> None:
    Path("l.yaml").write_text("".join(f"- {{model: m{n}.onnx, seed: {n}}}\n" for n in range(2500)))
    assert len(rows("l.yaml")) == 2500


def test_names_of_entries_are_kept() -> None:
    """Rows are found again by them: another function makes every finished fleet start anew."""
    assert entry_of("a.onnx", {}) == entry_of("a.onnx", {"baseline": "r.json"})
    assert entry_of("a.onnx", {"data": ("b.npz",)}) == entry_of("a.onnx", {"data": ["b.npz"]})
    assert entry_of("a.onnx", {}) != entry_of("a.onnx", {"seed": 1})
    assert entry_of("a.onnx", {}) == "1f3e8fb1bd337c12"


def test_code_of_the_users_is_noticed(folder: Path) -> None:
    def runs(model: str, **given: Any) -> bool:
        return read_entries([model], given)[0][0].runs_code

    assert runs("nets.py:Mlp")
    assert runs("zoo/b.onnx", data=("d.py:rows",))
    assert runs("zoo/b.onnx", loss="l.py:focal")
    assert not runs("zoo/b.onnx", data=("d.npz",), loss="mse", labels=None)


def test_no_source_is_no_fleet() -> None:
    with pytest.raises(UsageError, match="no model is named"):
        read_entries([], {})
