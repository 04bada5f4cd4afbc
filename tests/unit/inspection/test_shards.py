"""safetensors, and weights in several files with an index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bnaudit.errors import InputError
from bnaudit.inspection.checkpoint import inspect_checkpoint
from bnaudit.inspection.safetensors import inspect_safetensors
from bnaudit.load.sniff import FileKind, sniff
from bnaudit.load.weights import read_weights
from tests.unit.initialisation.files import save_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3), nn.BatchNorm1d(3))
    for tensor in net.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 1)
    return net.state_dict()


def index(path: Path, parts: Mapping[str, list[str]]) -> Path:
    names = {n: file for file, names in parts.items() for n in names}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    return path


def sharded(folder: Path, kind: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """One BatchNorm's tensors lie in two files."""
    tensors = state()
    names = list(tensors)
    halves = {f"model-0000{i + 1}-of-00002.{kind}": names[i::2] for i in range(2)}
    for file, own in halves.items():
        some = {n: tensors[n] for n in own}
        if kind == "safetensors":
            save_safetensors(folder / file, some)
        else:
            torch.save(some, folder / file)
    return index(folder / f"model.{kind}.index.json", halves), tensors


def same(found: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    assert {b.name for b in found.batchnorms} == {"1", "3"}
    for b in found.batchnorms:
        assert b.gamma == tuple(tensors[f"{b.name}.weight"].double().tolist())
        assert b.beta == tuple(tensors[f"{b.name}.bias"].double().tolist())
        assert b.running_mean == tuple(tensors[f"{b.name}.running_mean"].double().tolist())
        assert b.running_var == tuple(tensors[f"{b.name}.running_var"].double().tolist())
        assert b.batches_tracked == int(tensors[f"{b.name}.num_batches_tracked"])


def test_one_file(tmp_path: Path) -> None:
    tensors = state()
    found = inspect_safetensors(save_safetensors(tmp_path / "x.bin", tensors))
    same(found, tensors)
    assert found.facts == {"framework": "pt"}
    assert found.kind == "safetensors"
    assert found.parameters == 18 + 2 + 4 + 6 + 3 + 6


@pytest.mark.parametrize(
    ("kind", "expected"), [("safetensors", FileKind.SAFETENSORS), ("bin", FileKind.CHECKPOINT)]
)
def test_an_index_leads_to_all(tmp_path: Path, kind: str, expected: FileKind) -> None:
    path, tensors = sharded(tmp_path, kind)
    assert sniff(path) is expected
    found = (inspect_safetensors if kind == "safetensors" else inspect_checkpoint)(path)
    same(found, tensors)
    assert found.facts["files"] == "2"
    assert found.size == sum(p.stat().st_size for p in tmp_path.glob(f"*.{kind}"))
    read = {t.name: t.read() for t in read_weights(path).tensors}
    assert read.keys() == {n for n, t in tensors.items() if t.is_floating_point()}
    for name, values in read.items():
        np.testing.assert_array_equal(values, tensors[name].double().numpy())


def test_one_of_several_says_so(tmp_path: Path) -> None:
    sharded(tmp_path, "safetensors")
    found = inspect_safetensors(tmp_path / "model-00001-of-00002.safetensors")
    assert "part 1 of 2 by its name; the index file leads to all" in found.notes


def test_keras_and_jax_names(tmp_path: Path) -> None:
    tensors = {
        "conv1_bn.gamma": torch.rand(3),
        "conv1_bn.beta": torch.rand(3),
        "conv1_bn.moving_mean": torch.rand(3),
        "conv1_bn.moving_variance": torch.rand(3),
        "block/bn/scale": torch.rand(2),
        "block/bn/moving_mean": torch.rand(2),
        "block/bn/moving_var": torch.rand(2),
    }
    found = {
        b.name: b
        for b in inspect_safetensors(save_safetensors(tmp_path / "k.st", tensors)).batchnorms
    }
    assert found.keys() == {"conv1_bn", "block/bn"}
    assert found["conv1_bn"].gamma == tuple(tensors["conv1_bn.gamma"].double().tolist())
    assert found["conv1_bn"].running_var == tuple(
        tensors["conv1_bn.moving_variance"].double().tolist()
    )
    assert found["block/bn"].beta is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight_map": {"a": "../x.safetensors"}}, "another folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "another folder"),
        ({"weight_map": {"a": ""}}, "another folder"),
        ({"weight_map": {"a": "x\0y"}}, "another folder"),
        ({"weight_map": {"a": "none.safetensors"}}, "none.safetensors is missing"),
        ({"weight_map": {"a": "x.index.json"}}, "index again"),
        ({"weight_map": {}}, "not a model file"),
        ({"weight_map": [3]}, "not a model file"),
        ({"weight_map": {"a": 3}}, "not a model file"),
        ({"config": {}}, "not a model file"),
        ([1], "not a model file"),
    ],
)
def test_bad_indices(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "x.index.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        sniff(path)


def test_a_part_that_is_cut_off(tmp_path: Path) -> None:
    path, _ = sharded(tmp_path, "safetensors")
    part = tmp_path / "model-00002-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(InputError, match="model-00002-of-00002"):
        inspect_safetensors(path)
