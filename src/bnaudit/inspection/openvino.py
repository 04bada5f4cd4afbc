"""An OpenVINO IR without a run: the network is XML, its constants are bytes in the .bin beside it.

A BatchNormInference reads its input, gamma, beta, mean and variance (opset5; opset1: gamma, beta, the input,
mean, variance). https://docs.openvino.ai/2024/documentation/openvino-ir-format.html
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from bnaudit.errors import InputError
from bnaudit.files import content, exists, opened, referred_to
from bnaudit.inspection.layers import values
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.objects import SIZES, DamagedError, Storage, StoredTensor
from bnaudit.load.pickles.vectors import read_vector
from bnaudit.records.inspection import Absence, BatchNormStatics, Inspection
from bnaudit.records.model import TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_BATCHNORM = "BatchNormInference"
_FIRST_OPSET = ("gamma", "beta", "input", "running_mean", "running_var")
_LATER_OPSETS = ("input", "gamma", "beta", "running_mean", "running_var")
_OTHERS = ("MVN", "NormalizeL2", "LRN", "GroupNormalization", "LayerNormalization", "RMS")
_WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
_NAMES = {
    "Convolution": "Conv",
    "GroupConvolution": "Conv",
    "ConvolutionBackpropData": "ConvTranspose",
    "GroupConvolutionBackpropData": "ConvTranspose",
    "Parameter": "input",
    "ReLU": "Relu",
    "Multiply": "Mul",
    "AvgPool": "AveragePool",
    "Clamp": "Clip",
}
_COPIES = ("Convert", "Reshape", "Squeeze", "Unsqueeze")
_LARGEST = 1 << 28


def inspect_openvino(path: Path) -> Inspection:
    """What an IR stores of BatchNorm. OpenVINO's converter folds it wherever it can.

    Raises:
        InputError: the XML is damaged, or the .bin is missing or too short.
    """
    with explained(path, "OpenVINO IR"):
        ir = _Ir(path)
        found = tuple(ir.batchnorm(node) for node in ir.layers.values() if node.type == _BATCHNORM)
    kinds = Counter(node.type for node in ir.layers.values())
    norms = {kind: kinds[kind] for kind in _OTHERS if kinds[kind]}
    return Inspection(
        path=str(path),
        kind="openvino",
        facts={"ir": ir.version},
        size=path.stat().st_size + (ir.bin.stat().st_size if exists(ir.bin) else 0),
        inputs=tuple(
            TensorInfo(n.name, None, _TYPES.get(n.data.get("element_type", "")))
            for n in ir.layers.values()
            if n.type == "Parameter"
        ),
        batchnorms=found,
        other_norms=norms,
        weight_layers=sum(kinds[kind] for kind in _WEIGHTED),
        absence=None
        if found
        else Absence(
            "other-normalisation" if norms else "unknown",
            (
                ", ".join(norms)
                or "OpenVINO's converter folds BatchNorm into the weights and leaves no trace",
            ),
            "audit the model that was converted",
        ),
    )


class _Layer:
    """One `<layer>` of the XML."""

    def __init__(self, element: ET.Element) -> None:
        self.id = element.get("id", "")
        self.name = element.get("name", "")
        self.type = element.get("type", "")
        self.opset = element.get("version", "")
        data = element.find("data")
        self.data: dict[str, str] = {} if data is None else dict(data.attrib)
        ports = element.findall("input/port")
        self.inputs = [port.get("id", "") for port in ports]


class _Ir:
    """Layers and edges of a file, and the numbers of its constants."""

    big_endian = False

    def __init__(self, path: Path) -> None:
        self.path, self.bin = path, referred_to(path.with_suffix(".bin"))
        text = content(path) if path.stat().st_size <= _LARGEST else b""
        # Entities can describe an endless text, and an IR has none.
        if not text or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise DamagedError("it is no IR, or one of an absurd size")
        try:
            root = ET.fromstring(text)  # noqa: S314 - without entities, see above
        except ET.ParseError as error:
            raise DamagedError("its XML is broken") from error
        self.version = root.get("version", "")
        self.layers = {layer.id: layer for layer in map(_Layer, root.iterfind("layers/layer"))}
        self.sources = {
            (edge.get("to-layer", ""), edge.get("to-port", "")): edge.get("from-layer", "")
            for edge in root.iterfind("edges/edge")
        }

    def source(self, layer: _Layer, index: int) -> _Layer | None:
        """The layer that an input comes from, those in between skipped that only lay numbers out anew."""
        for _ in range(len(self.layers)):
            if len(layer.inputs) <= index:
                return None
            before = self.layers.get(self.sources.get((layer.id, layer.inputs[index]), ""))
            if before is None or before.type not in _COPIES:
                return before
            layer, index = before, 0
        return None

    def batchnorm(self, layer: _Layer) -> BatchNormStatics:
        """The record of one.

        Raises:
            DamagedError: its constants lie outside the .bin.
        """
        order = _FIRST_OPSET if layer.opset in ("opset1", "") else _LATER_OPSETS
        found: dict[str, Any] = {}
        dtype = None
        for index, part in enumerate(order):
            before = self.source(layer, index)
            if part == "input":
                kind = before.type if before is not None else "Parameter"
                found["preceded_by"] = _NAMES.get(kind, kind)
            elif before is not None and before.type == "Const":
                tensor = self._constant(before)
                dtype = dtype or tensor.dtype
                found[part] = values(tensor, lambda t: read_vector(self, t))
        if "running_mean" not in found or "running_var" not in found:
            raise InputError(
                f"{self.path}: an OpenVINO IR whose {_BATCHNORM} {layer.name!r} has no stored statistics: "
                f"{len(self.sources)} edges lead to no constants of it",
                hint="convert the model again with openvino.save_model, which writes a .bin of the constants "
                "beside the .xml; or audit the model that was converted",
            )
        known = [v for part in order if part != "input" and (v := found.get(part))]
        eps = layer.data.get("epsilon", layer.data.get("eps", ""))
        return BatchNormStatics(
            name=layer.name or f"layer {layer.id}",
            origin=f"layer {layer.id} ({layer.type})",
            channels=len(known[0]) if known else None,
            eps=_number(eps),
            training=False,
            dtype=dtype,
            **found,
        )

    def _constant(self, layer: _Layer) -> StoredTensor:
        try:
            shape = tuple(int(n) for n in layer.data.get("shape", "").split(",") if n.strip())
            offset, size = int(layer.data["offset"]), int(layer.data["size"])
        except (KeyError, ValueError) as error:
            raise DamagedError(f"the constant {layer.name!r} makes no sense") from error
        dtype = _TYPES.get(layer.data.get("element_type", ""), "other")
        tensor = StoredTensor(None, dtype, shape, layout="other")
        if dtype not in SIZES:
            return tensor
        if offset < 0 or size != tensor.numel * SIZES[dtype] or offset % SIZES[dtype]:
            raise DamagedError(f"the constant {layer.name!r} has another size than its shape says")
        steps = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            steps[axis] = steps[axis + 1] * shape[axis + 1]
        storage = Storage("", dtype, tensor.numel)
        return StoredTensor(storage, dtype, shape, tuple(steps), offset // SIZES[dtype])

    def numbers(self, _: Storage, start: int, count: int) -> bytes:
        """`count` bytes of the .bin from byte `start` on."""
        try:
            with opened(self.bin) as file:
                file.seek(start)
                return file.read(count)
        except FileNotFoundError:
            raise InputError(
                f"{self.bin}: no such file, and the IR's weights are in it",
                hint="keep the .bin beside the .xml, under the same name",
            ) from None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
