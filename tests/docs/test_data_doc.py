"""docs/data.md: every row of "you have" is run on files made here, with the examples as they stand."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import csv, parquet
from torch import Tensor, nn

from bnaudit.cli import run
from bnaudit.config.data_kinds import Images
from bnaudit.data.signature import LABELS
from bnaudit.data.sources.images import FORMATS
from tests.data.sources.test_rows import safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN = ROOT / "tests" / "data" / "sources" / "polygraphy_0_53_6.json"
ROWS = re.findall(r"^\| ([^|]*) \| `bnaudit ([^`]*)` \| ([^|]*) \|$", TEXT, re.MULTILINE)
EXAMPLES = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SCREEN = re.findall(r"^\$ bnaudit ([^#\n]*)", README, re.MULTILINE)


class Graph(nn.Module):
    """Nodes hear of their neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.b1, self.l2 = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        heard = torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])
        return self.l2(torch.relu(self.b1(self.l1(x + heard))))


def models(folder: Path) -> None:
    for name in ("model.onnx", "scripted.pt", "batch.npz"):
        shutil.copy(ROOT / "fixtures" / "digits_resnet" / name, folder)
    shutil.copy(ROOT / "fixtures" / "digits_resnet" / "state_dict.pt", folder / "start.pt")
    shutil.copy(ROOT / "fixtures" / "tabular_mlp" / "model.onnx", folder / "tabular.onnx")
    torch.manual_seed(0)
    rgb = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    small = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for net, name in ((rgb, "rgb.pt"), (small, "small.pt"), (Graph(), "gnn.pt")):
        torch.jit.script(net.eval()).save(folder / name)


def arrays(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with np.load(folder / "batch.npz") as data:
        x, y = data["x"], data["labels"]
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez(folder / "named.npz", picture=x, digit=y, number=np.arange(len(x)))
    torch.save({"x": torch.from_numpy(x), "labels": torch.from_numpy(y)}, folder / "batch.pt")
    safetensors(folder / "batch.safetensors", x=x, labels=y)
    for part in range(2):
        np.savez(folder / f"part{part}.npz", x=x[part::2], labels=y[part::2])
    random = np.random.default_rng(0)
    nodes = random.normal(size=(200, 8)).astype(np.float32)
    edges, labels = random.integers(0, 200, (2, 900)), random.integers(0, 3, 200)
    np.savez(folder / "graph.npz", x=nodes, edge_index=edges, labels=labels)
    return x, y


def pictures(folder: Path, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for number, (pixels, label) in enumerate(zip(x, y, strict=True)):
        image = Image.fromarray((pixels[0] * 255).round().astype(np.uint8))
        image.save(folder / "images" / f"{number:03}.png")
        (folder / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        image.save(folder / "digits" / str(label) / f"{number:03}.png")
    for number in range(16):
        place = folder / "photos" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(place)


def rows_of(folder: Path) -> None:
    with np.load(ROOT / "fixtures" / "tabular_mlp" / "batch.npz") as data:
        x, y = data["x"], data["labels"]
    columns = {f"c{i}": x[:, i] for i in range(x.shape[1])}
    table = pa.table({**columns, "target": y})
    csv.write_csv(table, folder / "table.csv")
    parquet.write_table(table, folder / "table.parquet", row_group_size=50)
    names = pa.array(np.array(["benign", "malignant"])[y].tolist())
    csv.write_csv(pa.table({**columns, "diagnosis": names}), folder / "patients.csv")
    shutil.copy(WRITTEN, folder / "inputs.json")


class Stored:
    """datasets.Dataset in the torch format, see tests/data/sources/test_loaders.py."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def with_format(self, form: str) -> Stored:
        assert form == "torch"
        return self

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"image": self.x[row], "label": self.y[row], "text": "a digit"}


class Shards(torch.utils.data.IterableDataset[Any]):
    """webdataset.WebDataset of the methods of the example."""

    def __init__(self, url: str, *, shardshuffle: bool) -> None:
        assert not shardshuffle
        assert tarfile.is_tarfile(url)
        with np.load("batch.npz") as data:
            self.x, self.y = data["x"], data["labels"]

    def decode(self) -> Shards:
        return self

    def to_tuple(self, *keys: str) -> Shards:
        assert keys == ("npy", "cls")
        return self

    def batched(self, size: int) -> Shards:
        self.size = size
        return self

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self.x), self.size):
            yield self.x[start : start + self.size], self.y[start : start + self.size]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    models(made)
    pictures(made, *arrays(made))
    rows_of(made)
    tarfile.open(made / "digits.tar", "w").close()
    for name, code in EXAMPLES:
        (made / name).write_text(code, encoding="utf-8")
    return made


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with np.load("batch.npz") as data:
        stored = Stored(data["x"], data["labels"])
    for name, what in (("load_from_disk", lambda _: stored), ("WebDataset", Shards)):
        module = ModuleType(name)
        setattr(module, name, what)
        library = {"load_from_disk": "datasets", "WebDataset": "webdataset"}[name]
        monkeypatch.setitem(sys.modules, library, module)
    return folder


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(("have", "command", "loss"), ROWS, ids=[c for _, c, _ in ROWS])
def test_a_row_is_run(
    have: str, command: str, loss: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = command.split()
    if args[0] in {"check", "diff"}:
        args += ["--metrics", "first_order", "--fail-on", "never"]
    assert run([*args, "--format", "json", "-q"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    document = json.loads(printed.out)
    if args[0] != "check":
        return
    data, used = document["run"]["data"], document["run"]["loss"]
    assert data["source"] == ("synthetic" if have == "nothing" else data["source"])
    assert used["name"] == ("noise_mse" if loss.startswith("noise") else "cross_entropy")
    assert (used["labels"] is None) == loss.startswith("noise")
    assert (used["labels"] or "").startswith("drawn") == loss.startswith("labels drawn")
    assert (data["digest"] is None) == have.startswith("nothing")


def test_there_are_rows_and_examples() -> None:
    assert len(ROWS) > 20
    assert [name for name, _ in EXAMPLES] == ["loader.py", "hub.py", "shards.py", "graphs.py"]
    assert all(f"{name}:batches" in TEXT for name, _ in EXAMPLES)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("command", SCREEN)
def test_the_first_screen_of_the_readme_runs(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*command.split(), "--metrics", "first_order", "-q"]
    assert run([*args, "--fail-on", "never"]) == 0
    assert capsys.readouterr().err == ""


def test_the_first_screen_has_the_readers_own_model_and_data() -> None:
    assert len(SCREEN) > 2
    assert all(f"$ bnaudit {command}" in README[:2600] for command in SCREEN)


@pytest.mark.usefixtures("inside")
def test_a_shuffling_loader_gives_the_same_bytes_of_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for seed in ("0", "0", "1"):
        torch.rand(3)  # whatever was drawn before
        command = "check model.onnx --data loader.py:batches --metrics first_order -q --format json"
        assert run([*command.split(), "--fail-on", "never", "--seed", seed]) == 0
        document = json.loads(capsys.readouterr().out)
        document["run"].pop("seconds")
        found.append(document)
    assert found[0] == found[1]
    assert found[0]["run"]["data"]["paths"] == ["loader.py:batches"]
    assert found[0]["run"]["data"]["source"] == "function"
    assert found[0]["run"]["data"]["digest"] != found[2]["run"]["data"]["digest"]


@pytest.mark.usefixtures("inside")
def test_a_graphs_natural_file_gets_the_way_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "gnn.pt", "--data", "graph.npz"]) == 2
    assert "--data file.py:function, with `yield x, edge_index, labels`" in capsys.readouterr().err


def test_lists_in_the_text_are_those_of_the_code() -> None:
    plain = " ".join(TEXT.split())
    names = ", ".join(f"`{name}`" for name in LABELS[:-1])
    assert f"{names} or `{LABELS[-1]}`" in plain
    told = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE))
    assert {n for part in told for n in re.findall(r"`(\w+)`", part)} == set(Images.known)
    assert all(name in plain.upper() for name in FORMATS)
