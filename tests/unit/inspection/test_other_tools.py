"""Weights as other tools store them: read where their four vectors are, else named for what they are."""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import bnaudit
from bnaudit.errors import InputError
from bnaudit.load.weights import read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

R = np.random.default_rng(0)


def vectors(names: tuple[str, ...] = ("weight", "bias", "running_mean", "running_var")) -> Any:
    found: dict[str, Any] = {f"bn1.{n}": R.normal(size=8).astype(np.float32) for n in names}
    found[f"bn1.{names[3]}"] = np.abs(found[f"bn1.{names[3]}"]) + 0.1
    found[f"bn1.{names[3]}"][5] = np.nan
    return {"conv1.weight": R.normal(size=(8, 3, 3, 3)).astype(np.float32), **found}


def the_layer(path: Path, kind: str, stored: dict[str, NDArray[Any]]) -> None:
    """The one layer has the numbers that were stored, and its NaN is found."""
    report = bnaudit.inspect(path)
    assert report.inspection.kind == kind
    (layer,) = report.inspection.batchnorms
    assert layer.name == "bn1"
    found = (layer.gamma, layer.beta, layer.running_mean, layer.running_var)
    wanted = [v for n, v in stored.items() if n.startswith("bn1.")]
    for values, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(values, expected.reshape(-1).astype(np.float64))
    assert ("BN006", "bn1") in [(f.rule, f.layer) for f in report.findings]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_numpy_archive(tmp_path: Path, save: Any, dtype: str, order: Any) -> None:
    stored = {n: np.asarray(v, dtype, order=order) for n, v in vectors().items()}
    save(tmp_path / "x.npz", **stored)
    the_layer(tmp_path / "x.npz", "numpy", stored)
    read = {t.name: t.read() for t in read_weights(tmp_path / "x.npz").tensors}
    np.testing.assert_array_equal(read["conv1.weight"], stored["conv1.weight"].astype(np.float64))


def test_statistics_in_another_shape(tmp_path: Path) -> None:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    stored = {n: v.reshape(1, 8, 1, 1) if "bn" in n else v for n, v in vectors(names).items()}
    np.savez(tmp_path / "x.npz", **stored)
    the_layer(tmp_path / "x.npz", "numpy", stored)


def test_sample_batches_are_no_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((4, 3)), mean=np.zeros(3), var=np.ones(3))
    with pytest.raises(InputError, match="not a model") as caught:
        bnaudit.inspect(tmp_path / "x.npz")
    assert caught.value.hint == "sample batches go to --data"


def test_objects_in_an_archive_stay_closed(tmp_path: Path) -> None:
    stored = vectors()
    np.savez(tmp_path / "x.npz", allow_pickle=True, **stored, other=np.array([{}], dtype=object))
    the_layer(tmp_path / "x.npz", "numpy", stored)


def test_a_member_that_is_shorter_than_its_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **vectors())
    with (
        zipfile.ZipFile(tmp_path / "x.npz") as old,
        zipfile.ZipFile(tmp_path / "y.npz", "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name)[: -4 if name.startswith("bn1") else None])
    with pytest.raises(InputError, match="is too short"):
        bnaudit.inspect(tmp_path / "y.npz")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_paddles_parameters(tmp_path: Path, protocol: int, dtype: str) -> None:
    stored = {
        n: v.astype(dtype) for n, v in vectors(("weight", "bias", "_mean", "_variance")).items()
    }
    names = {"StructuredToParameterName@@": {name: name for name in stored}}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({**stored, **names}, protocol))
    the_layer(tmp_path / "x.pdparams", "pickle", stored)


def test_arrays_under_a_key_beside_a_large_one(tmp_path: Path) -> None:
    """Detectron's files; what is longer than any layer's channels is not kept in memory."""
    stored = vectors()
    large = {"fc.weight": np.zeros((1000, 1000), np.float32)}
    content = {"model": {**stored, **large}, "__author__": "somebody", "matching_heuristics": True}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    the_layer(tmp_path / "x.pkl", "pickle", stored)
    parameters = bnaudit.inspect(tmp_path / "x.pkl").inspection.parameters
    assert parameters == 8 * 27 + 2 * 8 + 1000 * 1000


class Evil:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_pickle_is_read_as_data(tmp_path: Path) -> None:
    stored = vectors()
    evil = {"evil": Evil(str(tmp_path / "here"))}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({**stored, **evil}))
    the_layer(tmp_path / "x.pkl", "pickle", stored)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, "text", {"deep": {"er": [1.0]}}])
def test_other_pickles_are_named(tmp_path: Path, content: object) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="a pickle without named arrays"):
        bnaudit.inspect(tmp_path / "x.pkl")


def ir(folder: Path, opset: str, dtype: type[np.floating[Any]], *, convert: bool = False) -> Path:
    """BatchNormInference as OpenVINO writes it, with its constants in the .bin."""
    stored = {n: v.astype(dtype) for n, v in vectors().items()}
    parts = [stored[f"bn1.{n}"] for n in ("weight", "bias", "running_mean", "running_var")]
    kind = {np.float16: "f16", np.float32: "f32"}[dtype]
    layers = [
        '<layer id="0" name="x" type="Parameter" version="opset1"><data element_type="f32"/></layer>'
    ]
    edges, offset = [], 0
    ports = {"opset1": (2, 0, 1, 3, 4), "opset5": (0, 1, 2, 3, 4)}[opset]
    for i, part in enumerate(parts):
        size = part.nbytes
        data = f'<data element_type="{kind}" shape="8" offset="{offset}" size="{size}"/>'
        layers.append(
            f'<layer id="{i + 1}" name="c{i}" type="Const" version="opset1">{data}</layer>'
        )
        source = i + 1
        if convert:
            source = 10 + i
            port = '<input><port id="0"/></input>'
            layers.append(f'<layer id="{source}" name="v{i}" type="Convert">{port}</layer>')
            edges.append(
                f'<edge from-layer="{i + 1}" from-port="0" to-layer="{source}" to-port="0"/>'
            )
        edges.append(
            f'<edge from-layer="{source}" from-port="1" to-layer="9" to-port="{ports[i + 1]}"/>'
        )
        offset += size
    edges.append(f'<edge from-layer="0" from-port="0" to-layer="9" to-port="{ports[0]}"/>')
    given = "".join(f'<port id="{i}"/>' for i in range(5))
    layers.append(
        f'<layer id="9" name="bn1" type="BatchNormInference" version="{opset}">'
        f'<data epsilon="0.002"/><input>{given}</input></layer>'
    )
    text = f'<?xml version="1.0"?>\n<net name="m" version="11"><layers>{"".join(layers)}</layers>'
    path = folder / "x.xml"
    path.write_text(f"{text}<edges>{''.join(edges)}</edges></net>")
    path.with_suffix(".bin").write_bytes(b"".join(p.tobytes() for p in parts))
    the_layer(path, "openvino", stored)
    return path


@pytest.mark.parametrize("opset", ["opset1", "opset5"])
@pytest.mark.parametrize(("dtype", "convert"), [(np.float32, False), (np.float16, True)])
def test_an_openvino_ir(tmp_path: Path, opset: str, dtype: Any, convert: bool) -> None:
    (layer,) = bnaudit.inspect(ir(tmp_path, opset, dtype, convert=convert)).inspection.batchnorms
    assert (layer.eps, layer.preceded_by, layer.dtype) == (0.002, "input", np.dtype(dtype).name)


def test_an_ir_without_its_weights_or_with_entities_is_refused(tmp_path: Path) -> None:
    path = ir(tmp_path, "opset5", np.float32)
    text = path.read_text()
    path.write_text(text.replace("<net", '<!DOCTYPE net [<!ENTITY a "a">]><net'))
    with pytest.raises(InputError, match="OpenVINO IR"):
        bnaudit.inspect(path)
    path.write_text(text)
    path.with_suffix(".bin").write_bytes(b"short")
    with pytest.raises(InputError, match="outside its storage"):
        bnaudit.inspect(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match=r"x\.bin: no such file"):
        bnaudit.inspect(path)


def test_an_ir_whose_batchnorm_was_folded(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(
        '<net name="m" version="11"><layers>'
        '<layer id="0" name="c" type="Convolution"/></layers><edges/></net>'
    )
    found = bnaudit.inspect(tmp_path / "x.xml")
    assert found.exit_code == 3
    assert found.inspection.absence is not None
    assert "converter folds BatchNorm" in found.inspection.absence.evidence[0]


KERAS3 = {"bn_a": {"epsilon": 0.002, "momentum": 0.9}, "b": {"epsilon": 0.001, "scale": False}}


def keras_groups(h5: Any, group: str = "batch_normalization") -> dict[str, NDArray[Any]]:
    """As Keras 3.15 writes layers "bn_a" (all four) and "b" (without gamma)."""
    stored = {}
    for i, (name, count) in enumerate((("bn_a", 4), ("b", 3))):
        own = h5.create_group(f"layers/{group}{f'_{i}' if i else ''}/vars")
        own.attrs["name"] = name
        for k in range(count):
            stored[f"{name}/{k}"] = (np.abs(R.normal(size=4)) + 0.1).astype(np.float32)
            own.create_dataset(str(k), data=stored[f"{name}/{k}"])
    return stored


def configured(layers: dict[str, dict[str, Any]]) -> str:
    every = [
        {"class_name": "BatchNormalization", "config": {"name": n, **c}} for n, c in layers.items()
    ]
    inner = {"class_name": "Sequential", "config": {"layers": every[1:]}}
    return json.dumps({"class_name": "Functional", "config": {"layers": [every[0], inner]}})


@pytest.mark.parametrize("config", [True, False])
def test_keras_3(tmp_path: Path, config: bool) -> None:
    h5py = pytest.importorskip("h5py")
    weights, path = tmp_path / "x.weights.h5", tmp_path / "x.weights.h5"
    with h5py.File(weights, "w") as h5:
        stored = keras_groups(h5)
    if config:
        path = tmp_path / "m.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(weights, "model.weights.h5")
            archive.writestr("config.json", configured(KERAS3))
            archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
    found = bnaudit.inspect(path).inspection
    first, second = found.batchnorms
    assert (first.name, second.name) == ("bn_a", "b")
    vectors = (first.gamma, first.beta, first.running_mean, first.running_var)
    for k, values in enumerate(vectors):
        np.testing.assert_array_equal(values, stored[f"bn_a/{k}"])
    assert second.gamma is None
    assert (second.beta is None) is not config  # a file of weights alone does not say which it is
    np.testing.assert_array_equal(second.running_mean, stored["b/1"])
    np.testing.assert_array_equal(second.running_var, stored["b/2"])
    assert (first.eps, first.momentum) == ((0.002, 0.1) if config else (None, None))
    assert (found.kind, found.producer) == ("keras", "keras 3.15.1" if config else None)
    assert first.dtype == "float32"


def test_keras_2(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "old.h5"
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    with h5py.File(path, "w") as h5:
        for i, name in enumerate(names):
            data = np.full(4, i + 1, ">f4")
            h5.create_dataset(f"model_weights/bn_a/bn_a/{name}:0", data=data)
        h5.create_dataset("optimizer_weights/bn_a/gamma:0", data=np.zeros(4))
        h5.attrs["model_config"] = configured(KERAS3)
        h5.attrs["keras_version"] = b"2.4.0"
    (layer,) = bnaudit.inspect(path).inspection.batchnorms
    assert (layer.name, layer.eps, layer.momentum) == ("bn_a", 0.002, 0.1)
    assert (layer.gamma, layer.running_var) == ((1.0,) * 4, (4.0,) * 4)


def test_without_h5py_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(InputError, match="needs h5py") as caught:
        bnaudit.inspect(tmp_path / "x.h5")
    assert "pip install" in str(caught.value.hint)


STRANGERS = {
    "x.tflite": (b"\x00\x00\x00\x00TFL3", "TensorFlow Lite"),
    "x.pte": (b"\x00\x00\x00\x00ET12" + bytes(40), "ExecuTorch"),
    "x.gguf": (b"GGUF" + bytes(40), "GGUF"),
    "x.params": (b"\x12\x01" + bytes(40), "MXNet"),
    "x.param": (b"7767517\n1 1\n", "ncnn"),
    "frozen.pb": (b"hello, world", "TensorFlow graph"),
    "m.ckpt.data-00000-of-00001": (b"hello, world", "TensorFlow checkpoint"),
    "m.ckpt.index": (b"hello, world", "TensorFlow checkpoint"),
    "m.mlmodel": (b"hello, world", "Core ML"),
    "m.pdiparams": (b"hello, world", "Paddle"),
    "m.engine": (b"hello, world", "TensorRT"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    content, what = STRANGERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=what) as caught:
        bnaudit.inspect(tmp_path / name)
    assert "audit the network it was made from" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("member", "what"), [("saved_model.pb", "SavedModel"), ("Manifest.json", "Core ML package")]
)
def test_folders_are_named(tmp_path: Path, member: str, what: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / member).write_bytes(b"x")
    with pytest.raises(InputError, match=what):
        bnaudit.inspect(tmp_path / "m")


@pytest.mark.parametrize(
    "edges", ["", '<edges><edge from-layer="9" to-layer="1" to-port="3"/></edges>']
)
def test_an_ir_without_its_constants_is_called_an_ir(edges: str, tmp_path: Path) -> None:
    ports = "".join(f'<port id="{i}"/>' for i in range(5))
    layer = '<layer id="1" name="bn" type="BatchNormInference" version="opset5">'
    layer += f"<input>{ports}</input></layer>"
    text = f'<?xml version="1.0"?><net name="m" version="11"><layers>{layer}</layers>{edges}</net>'
    (tmp_path / "ir.xml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="an OpenVINO IR whose BatchNormInference 'bn'") as caught:
        bnaudit.inspect(tmp_path / "ir.xml")
    assert "openvino.save_model" in str(caught.value.hint)
    (tmp_path / "ir.xml").write_text(text.removesuffix("</net>"), encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as an OpenVINO IR"):
        bnaudit.inspect(tmp_path / "ir.xml")


@pytest.mark.parametrize("virtual", [False, True])
def test_keras_numbers_in_another_file_are_refused(tmp_path: Path, virtual: bool) -> None:
    h5py = pytest.importorskip("h5py")
    path, other = tmp_path / "k.h5", tmp_path / "other"
    other.write_bytes(np.ones(4, "<f4").tobytes())
    with h5py.File(path, "w") as h5:
        group = h5.create_group("bn")
        if virtual:
            layout = h5py.VirtualLayout((4,), "<f4")
            layout[:] = h5py.VirtualSource(str(other), "x", (4,))
            group.create_virtual_dataset("moving_variance:0", layout)
        else:
            group.create_dataset("moving_variance:0", (4,), "<f4", external=[(str(other), 0, 16)])
    with pytest.raises(InputError, match="lie in another file, which is refused"):
        bnaudit.inspect(path)
