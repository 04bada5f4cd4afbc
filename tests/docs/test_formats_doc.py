"""Every row of docs/formats.md names a test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnaudit.cli import run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
TABLES = TEXT.partition("## ONNX")[2]
NAMED = re.findall(r"`((?:[\w-]+/)*test_\w+\.py)(?:::(\w+))?`", TABLES)


def test_every_row_names_one() -> None:
    rows = [line for line in TABLES.splitlines() if line.startswith("| ")]
    bodies = [row for row in rows if not row.endswith("| test |")]
    assert len(bodies) > 40
    for row in bodies:
        assert re.search(r"`[\w/]+/test_\w+\.py(::test_\w+)?` \|$", row), row


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_the_test_is_there(file: str, test: str) -> None:
    path = ROOT / "tests" / file
    assert path.is_file(), file
    code = path.read_text(encoding="utf-8")
    assert re.search(rf"^def {test or 'test_'}", code, re.MULTILINE)


class Graph(nn.Module):
    """Nodes hear of their neighbours."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.l1, self.b1, self.l2 = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        heard = torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])
        return self.l2(torch.relu(self.b1(self.l1(x + heard))))


def test_a_graph_is_one_batch_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.findall(
        r"^```python\n(# graphs\.py, for: bnaudit ([^\n]*)\n.*?)^```", TEXT, re.M | re.S
    )
    (text, command), *others = code
    assert not others
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graphs.py").write_text(text, encoding="utf-8")
    random = np.random.default_rng(0)
    nodes = random.normal(size=(200, 8)).astype(np.float32)
    edges, labels = random.integers(0, 200, (2, 900)), random.integers(0, 3, 200)
    np.savez("graph.npz", x=nodes, edge_index=edges, labels=labels)
    torch.jit.script(Graph().eval()).save("gnn.pt")
    assert run([*command.split(), "--fail-on", "never"]) == 0
    out = capsys.readouterr().out
    assert "1 batch of 200" in out
    assert "cross_entropy (labels from labels" in out
    # The natural file cannot be cut into rows, and the hint names the way that works.
    assert run(["check", "gnn.pt", "--data", "graph.npz"]) == 2
    assert "--data file.py:function can yield whole batches" in capsys.readouterr().err
