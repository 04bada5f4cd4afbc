"""The readers: seed files for each, how these are changed, and the command that reads them."""

from __future__ import annotations

import base64
import io
import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.fuzz import mutate, protobuf
from bench.fuzz.canary import Armed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.fuzz.mutate import Mutation

FIXTURES = Path(__file__).parents[2] / "fixtures"
MLP = FIXTURES / "tabular_mlp"


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        seeds: makes whole files of it, by the name that the mutated one gets.
        args: of the command; `{}` is the file.
        mutations: of which one is drawn for a file, beside that of bytes.
        share: of the files of a campaign, relative to other targets.
        torch: whether PyTorch is needed for it.
    """

    seeds: Callable[[], Mapping[str, bytes]]
    args: tuple[str, ...]
    mutations: tuple[Mutation, ...]
    share: float = 1.0
    torch: bool = False


_INSPECT = ("inspect", "{}", "--format", "json", "--channels")
_CHECK = (
    "check",
    "{}",
    "--data",
    "b.npz",
    "--metrics",
    "first_order",
    "--batches",
    "1",
    "-q",
    "--format",
    "json",
)
_DATA = ("check", "good.onnx", "--data", "{}", *_CHECK[4:])


def beside(folder: Path) -> None:
    """What commands need beside the mutated file."""
    shutil.copy(MLP / "model.onnx", folder / "good.onnx")
    shutil.copy(MLP / "batch.npz", folder / "b.npz")
    shutil.copy(FIXTURES / "digits_resnet" / "model.onnx", folder / "images.onnx")
    (folder / "w.bin").write_bytes(bytes(range(256)))
    (folder / "part.safetensors").write_bytes(_safetensors()["m.safetensors"])
    (folder / "good.json").write_bytes(_report())


def _files(*names: str) -> dict[str, bytes]:
    return {name: (MLP / name).read_bytes() for name in names}


def _weights() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    parts = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    found = {
        f"bn{i}.{p}": (rng.random(4) + at).astype("<f4")
        for i in range(2)
        for p, at in parts.items()
    }
    return {"fc.weight": rng.random((4, 3)).astype("<f4"), **found}


def _onnx() -> dict[str, bytes]:
    found = _files("model.onnx", "dynamo.onnx", "folded.onnx")
    make = helper.make_tensor_value_info
    x, y = make("x", TensorProto.FLOAT, ["N", 30]), make("y", TensorProto.FLOAT, ["N", 30])
    init = [
        numpy_helper.from_array(np.full(30, v, "<f4"), n)
        for n, v in zip("gbmv", (1, 0, 0, 1), strict=True)
    ]
    init += [numpy_helper.from_array(np.array(v), n) for n, v in (("k", 2), ("go", True))]
    norm = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["n"], "bn")
    out = make("o", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["n"], ["o"])], "t", [], [out])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Mul", ["a", "a"], ["e"])],
        "l",
        [
            make("i", TensorProto.INT64, []),
            make("c", TensorProto.BOOL, []),
            make("a", TensorProto.FLOAT, None),
        ],
        [make("d", TensorProto.BOOL, []), make("e", TensorProto.FLOAT, None)],
    )
    nodes = [
        norm,
        helper.make_node("If", ["go"], ["r"], then_branch=branch, else_branch=branch),
        helper.make_node("Loop", ["k", "go", "r"], ["y"], body=body),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return {**found, "control.onnx": model.SerializeToString(), "external.onnx": _external(model)}


def _external(model: onnx.ModelProto) -> bytes:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "8"), ("length", "120")):
        tensor.external_data.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _script() -> dict[str, bytes]:
    return _files("scripted.pt", "traced.pt")


def _exported() -> dict[str, bytes]:
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(30, 4), torch.nn.BatchNorm1d(4)).eval()
    out = io.BytesIO()
    torch.export.save(torch.export.export(net, (torch.ones(2, 30),)), out)
    return {"m.pt2": out.getvalue()}


def _checkpoints(*, zipped: bool) -> dict[str, bytes]:
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    found = {}
    for name, content in (
        ("state.pt", net.state_dict()),
        ("nested.pt", {"model": net.state_dict(), "epoch": 3, "odd": Armed()}),
        ("whole.pt", net),
    ):
        out = io.BytesIO()
        torch.save(content, out, _use_new_zipfile_serialization=zipped)
        found[name] = out.getvalue()
    return found


def _safetensors() -> dict[str, bytes]:
    header, data = {}, b""
    for name, array in _weights().items():
        raw = array.tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return {"m.safetensors": len(text).to_bytes(8, "little") + text + data}


def _index() -> dict[str, bytes]:
    names = dict.fromkeys(_weights(), "part.safetensors")
    return {
        "m.index.json": json.dumps({"metadata": {"total_size": 1}, "weight_map": names}).encode()
    }


def _arrays() -> dict[str, bytes]:
    out = io.BytesIO()
    np.savez(out, **_weights())  # type: ignore[arg-type]
    return {"m.npz": out.getvalue()}


def _pickles() -> dict[str, bytes]:
    content = {**_weights(), "odd": Armed()}
    return {f"p{version}.pdparams": pickle.dumps(content, version) for version in (2, 4)}


def _openvino() -> dict[str, bytes]:
    consts = "".join(
        f'<layer id="{i}" name="c{i}" type="Const" version="opset1"><data element_type="f32" shape="4" '
        f'offset="{16 * i}" size="16"/><output><port id="0"/></output></layer>'
        for i in range(4)
    )
    ports = "".join(f'<port id="{i}"/>' for i in range(5))
    edges = "".join(
        f'<edge from-layer="{i}" from-port="0" to-layer="9" to-port="{i + 1}"/>' for i in range(4)
    )
    text = (
        f'<?xml version="1.0"?><net name="n" version="11"><layers>{consts}<layer id="9" name="bn" '
        f'type="BatchNormInference" version="opset5"><data epsilon="0.001"/><input>{ports}</input></layer>'
        f"</layers><edges>{edges}</edges></net>"
    )
    return {"w.xml": text.encode()}


def _yaml() -> dict[str, bytes]:
    text = (
        "data: [batch.npz]\nbatches: 4\nfail-on: warning\nmetrics: [first_order]\nseed: 7\n"
        "rules:\n  BN003:\n    severity: warning\n    thresholds: {least: 0.1}\n  dead-gamma: off\n"
        "suppress:\n  - {rule: BN004, layers: 'bn*', reason: known}\noutput: {json: r.json}\n"
    )
    return {"c.yaml": text.encode()}


def _toml() -> dict[str, bytes]:
    text = (
        '[tool.bnaudit]\nbatches = 4\nfail-on = "warning"\nseed = 7\n'
        '[tool.bnaudit.rules.BN003]\nseverity = "info"\n'
    )
    return {"pyproject.toml": text.encode()}


def _report() -> bytes:
    from bnaudit.inspecting import inspect

    return inspect(MLP / "model.onnx").to_json(channels=True).encode()


def _reports() -> dict[str, bytes]:
    return {"r.json": _report()}


def _data() -> dict[str, bytes]:
    arrays = np.load(MLP / "batch.npz")
    out = io.BytesIO()
    np.save(out, arrays[arrays.files[0]][:8])
    return {"d.npz": (MLP / "batch.npz").read_bytes(), "d.npy": out.getvalue()}


def _tensors() -> dict[str, bytes]:
    import torch

    out = io.BytesIO()
    torch.save({"x": torch.ones(8, 30)}, out)
    return {"d.pt": out.getvalue()}


def _sample_safetensors() -> dict[str, bytes]:
    raw = np.ones((8, 30), "<f4").tobytes()
    entry = {"dtype": "F32", "shape": [8, 30], "data_offsets": [0, len(raw)]}
    text = json.dumps({"x": entry}).encode()
    return {"d.safetensors": len(text).to_bytes(8, "little") + text + raw}


def _images() -> dict[str, bytes]:
    from PIL import Image

    pixels = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    found = {}
    for suffix in ("png", "jpeg", "bmp", "webp", "tiff", "ppm", "gif"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, suffix)
        found[f"d.{suffix}"] = out.getvalue()
    return found


def _tables() -> dict[str, bytes]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    rows = np.arange(30 * 12, dtype=np.float64).reshape(12, 30)
    table = pa.table({**{f"c{i}": rows[:, i] for i in range(30)}, "y": ["a", "b"] * 6})
    text, packed = io.BytesIO(), io.BytesIO()
    csv.write_csv(table, text)
    parquet.write_table(table, packed, row_group_size=5)
    return {"d.csv": text.getvalue(), "d.parquet": packed.getvalue()}


def _polygraphy() -> dict[str, bytes]:
    out = io.BytesIO()
    np.save(out, np.ones((4, 30), np.float32))
    array = {"array": base64.b64encode(out.getvalue()).decode(), "polygraphy_class": "ndarray"}
    return {"d.json": json.dumps([{"x": array}, {"x": array}]).encode()}


_ZIP = (mutate.archive, mutate.archive, mutate.archive)
_GRAPH = (protobuf.model, protobuf.model, protobuf.model)

TARGETS: dict[str, Target] = {
    "ONNX, walked in place": Target(_onnx, _INSPECT, _GRAPH, 3.0),
    "ONNX, loaded": Target(_onnx, _CHECK, _GRAPH, 3.0, torch=True),
    "TorchScript, read": Target(_script, _INSPECT, _ZIP, 1.5),
    "TorchScript, loaded": Target(_script, _CHECK, _ZIP, 0.5, torch=True),
    "torch.export": Target(_exported, _INSPECT, _ZIP, 0.7, torch=True),
    "checkpoint, zip": Target(lambda: _checkpoints(zipped=True), _INSPECT, _ZIP, 1.5, torch=True),
    "checkpoint, legacy": Target(
        lambda: _checkpoints(zipped=False), _INSPECT, (mutate.pickled,), 1.5, torch=True
    ),
    "pickled arrays": Target(_pickles, _INSPECT, (mutate.pickled,)),
    "safetensors": Target(_safetensors, _INSPECT, (mutate.safetensors, mutate.safetensors)),
    "index of parts": Target(_index, _INSPECT, (mutate.of_json, mutate.of_json), 0.5),
    "npz": Target(_arrays, _INSPECT, _ZIP),
    "OpenVINO": Target(_openvino, _INSPECT, (mutate.of_text, mutate.of_text), 0.7),
    "bnaudit.yaml": Target(_yaml, ("config", "--config", "{}"), (mutate.of_text, mutate.of_text)),
    "pyproject.toml": Target(_toml, ("config", "--config", "{}"), (mutate.of_text,), 0.5),
    "baseline": Target(
        _reports, ("inspect", "good.onnx", "--baseline", "{}"), (mutate.of_json, mutate.of_json)
    ),
    "diff": Target(_reports, ("diff", "{}", "good.json"), (mutate.of_json, mutate.of_json), 0.5),
    "sample arrays": Target(_data, _DATA, (mutate.archive, mutate.array), 0.4, torch=True),
    "sample tensors": Target(_tensors, _DATA, (mutate.archive,), 0.3, torch=True),
    "sample safetensors": Target(
        _sample_safetensors, _DATA, (mutate.safetensors, mutate.safetensors), 0.3, torch=True
    ),
    "sample images": Target(
        _images, ("check", "images.onnx", *_DATA[2:]), (mutate.of_text,), 0.4, torch=True
    ),
    "sample tables": Target(_tables, _DATA, (mutate.of_text,), 0.4, torch=True),
    "sample JSON": Target(_polygraphy, _DATA, (mutate.of_json, mutate.of_json), 0.3, torch=True),
}
