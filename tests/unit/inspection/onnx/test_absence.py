"""Each way of losing BatchNorm is told by its own evidence, and the call that is advised keeps it."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from bnaudit.inspection.onnx import inspect_onnx
from bnaudit.inspection.onnx.remedies import keep
from tests.load.onnx import models

from . import nets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.inspection import Absence


def absence(path: Path) -> Absence:
    found = inspect_onnx(path).absence
    assert found is not None
    return found


def told(path: Path) -> str:
    return "; ".join(absence(path).evidence)


def advised(path: Path, net: nn.Module, folder: Path) -> Path:
    """A file written by the very call that the fix gives."""
    (call,) = re.findall(r"torch\.onnx\.export\(.*\)", absence(path).fix)
    kept = folder / "kept.onnx"
    found: dict[str, Any] = {}
    scope: dict[str, Any] = {"net": net, "x": nets.images(net), "path": str(kept), "torch": torch}

    def take(module: nn.Module, args: tuple[Any, ...], where: str, **options: Any) -> None:
        found.update(options, module=module, args=args, where=where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", take)
        eval(call, scope)  # noqa: S307  # the advice itself is the test
    assert found.pop("where") == str(kept)
    assert found.pop("args")[0].shape == nets.images(net).shape
    return nets.export(found.pop("module"), kept, **found)


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (nets.Residual, ["bn1", "block.1"]),
        (nets.mlp, ["1"]),
        (nets.upsampler, ["1"]),
    ],
)
def test_the_default_exporter_folds_and_notes_it(
    tmp_path: Path, make: Callable[[], nn.Module], layers: list[str]
) -> None:
    net = nets.trained(make())
    path = nets.export(net, tmp_path / "m.onnx", **nets.DYNAMO)
    inspection = inspect_onnx(path)
    assert inspection.batchnorms == ()
    assert absence(path).case == "folded"
    assert "FuseBatchNormInto" in told(path)
    assert f": {', '.join(layers)}" in told(path)
    kept = inspect_onnx(advised(path, net, tmp_path))
    assert [layer.name for layer in kept.batchnorms] == layers
    assert kept.absence is None


def test_notes_of_older_exporters_name_the_operator_alone(tmp_path: Path) -> None:
    """The rule's name is noted since onnxscript does so; the source of a node always was."""
    path = nets.export(nets.trained(nets.Residual()), tmp_path / "m.onnx", **nets.DYNAMO)
    proto = onnx.load(path)
    for node in proto.graph.node:
        kept = [e for e in node.metadata_props if "rewriter" not in e.key]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    assert "its note aten batch_norm at 2 layers with weights: bn1, block.1" in told(
        models.save(tmp_path, proto)
    )


@pytest.mark.parametrize("extra", [{}, {"keep_initializers_as_inputs": True}])
def test_the_torchscript_exporter_numbers_what_it_computes(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    net = nets.trained(nets.Residual())
    path = nets.export(net, tmp_path / "m.onnx", **nets.TORCHSCRIPT, **extra)
    assert absence(path).case == "folded"
    assert "2 convolutions (conv1, block.0) whose weight and bias the exporter computed" in told(
        path
    )
    kept = inspect_onnx(advised(path, net, tmp_path))
    assert [layer.name for layer in kept.batchnorms] == ["bn1", "block.1"]


def test_the_advice_fits_the_version_that_wrote_the_file(tmp_path: Path) -> None:
    path = nets.export(nets.trained(nets.Residual()), tmp_path / "m.onnx", **nets.TORCHSCRIPT)
    assert "dynamo=False" in absence(path).fix
    assert "leave it out" not in absence(path).fix
    proto = onnx.load(path)
    proto.producer_version = (
        "1.9"  # which does not know the option, as whoever runs it today has to
    )
    assert "dynamo=False" in absence(models.save(tmp_path, proto)).fix
    assert "leave it out" in absence(models.save(tmp_path, proto)).fix


@pytest.mark.parametrize("options", [nets.DYNAMO, nets.TORCHSCRIPT])
def test_part_of_the_layers_is_left(tmp_path: Path, options: dict[str, Any]) -> None:
    net = nets.trained(nets.PreActivation())
    path = nets.export(net, tmp_path / "m.onnx", **options)
    inspection = inspect_onnx(path)
    assert [layer.name for layer in inspection.batchnorms] == ["bn1", "bn2"]
    assert absence(path).case == "partly-folded"
    assert "stem" in told(path) or "bn0" in told(path)
    kept = inspect_onnx(advised(path, net, tmp_path))
    assert [layer.name for layer in kept.batchnorms] == ["bn0", "bn1", "bn2"]
    assert kept.absence is None


@pytest.mark.parametrize(
    ("level", "left"),
    [("ORT_DISABLE_ALL", 2), ("ORT_ENABLE_BASIC", 0), ("ORT_ENABLE_EXTENDED", 0)],
)
def test_onnxruntime_names_what_it_fused(tmp_path: Path, level: str, left: int) -> None:
    net = nets.trained(nets.Residual())
    source = nets.export(
        net, tmp_path / "s.onnx", **nets.TORCHSCRIPT, training=nets.TRAINING.PRESERVE
    )
    path = nets.optimised(source, tmp_path / "o.onnx", level)
    assert len(inspect_onnx(path).batchnorms) == left
    if not left:
        assert absence(path).case == "folded"
        assert "2 initializers named ConvBnFusion_BN_B_..." in told(path)
        assert "block.1, bn1" in told(path)
        assert "ORT_DISABLE_ALL" in absence(path).fix  # which the first case shows to keep them


def test_onnxruntime_may_leave_nothing_but_its_operators(tmp_path: Path) -> None:
    """Padded to its block of 16 channels, folded parameters are renamed once more."""
    net = nets.trained(nets.Residual())
    source = nets.export(
        net, tmp_path / "s.onnx", **nets.TORCHSCRIPT, training=nets.TRAINING.PRESERVE
    )
    path = nets.optimised(source, tmp_path / "o.onnx", "ORT_ENABLE_ALL")
    assert absence(path).case in {"folded", "unknown"}  # the layout depends on the machine
    assert "ONNX Runtime's optimiser" in told(path)
    assert "ORT_DISABLE_ALL" in absence(path).fix


def test_onnxruntime_turns_what_it_cannot_fuse_into_convolutions(tmp_path: Path) -> None:
    net = nets.trained(nets.Residual())
    source = nets.export(
        net, tmp_path / "s.onnx", **nets.TORCHSCRIPT, training=nets.TRAINING.PRESERVE
    )
    fusions = ["ConvBNFusion", "ConvMulFusion", "ConvAddFusion"]
    path = nets.optimised(source, tmp_path / "o.onnx", "ORT_ENABLE_ALL", fusions)
    assert "_bn_nchwc" in told(path) or inspect_onnx(path).batchnorms  # depends on the machine


@pytest.mark.parametrize("options", [nets.DYNAMO, nets.TORCHSCRIPT])
def test_frozen_layers_are_listed(tmp_path: Path, options: dict[str, Any]) -> None:
    path = nets.export(nets.trained(nets.Residual(nets.Frozen)), tmp_path / "m.onnx", **options)
    inspection = inspect_onnx(path)
    assert absence(path).case == "frozen"
    assert [norm.name for norm in inspection.decomposed] == ["bn1", "block.1"]
    assert [norm.channels for norm in inspection.decomposed] == [8, 8]
    assert inspection.decomposed[0].after == "conv1.weight"
    assert "FrozenBatchNorm2d" in absence(path).fix


def test_frozen_layers_whose_tensors_are_stored_are_judged(tmp_path: Path) -> None:
    net = nets.trained(nets.Residual(nets.Frozen))
    path = nets.export(net, tmp_path / "m.onnx", **{**nets.DYNAMO, "optimize": False})
    inspection = inspect_onnx(path)
    assert [b.name for b in inspection.batchnorms] == ["bn1", "block.1"]
    assert inspection.decomposed == ()
    for b in inspection.batchnorms:
        frozen = net.get_submodule(b.name)
        for own, values in (("weight", b.gamma), ("running_mean", b.running_mean)):
            assert values == tuple(getattr(frozen, own).tolist())
    assert absence(path).case == "other-form"
    assert "torch.nn.BatchNorm" in absence(path).fix


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nets.Residual(lambda c: nn.GroupNorm(2, c)), "GroupNorm"),
        (lambda: nets.Residual(lambda c: nn.InstanceNorm2d(c, affine=True)), "InstanceNorm"),
        (nets.Attention, "LayerNorm"),
    ],
)
@pytest.mark.parametrize("options", [nets.DYNAMO, {**nets.TORCHSCRIPT, "opset_version": 16}])
def test_other_normalisations_are_named(
    tmp_path: Path, make: Callable[[], nn.Module], name: str, options: dict[str, Any]
) -> None:
    """At opset 16 LayerNorm is written in single operators."""
    path = nets.export(nets.trained(make()), tmp_path / "m.onnx", **options)
    assert absence(path).case == "other-normalisation"
    assert list(inspect_onnx(path).other_norms) == [name]
    assert "--allow-no-bn" in absence(path).fix


@pytest.mark.parametrize("options", [nets.DYNAMO, nets.TORCHSCRIPT])
@pytest.mark.parametrize("bias", [True, False])
def test_a_network_that_never_had_any(tmp_path: Path, options: dict[str, Any], bias: bool) -> None:
    path = nets.export(nets.Plain(bias=bias).eval(), tmp_path / "m.onnx", **options)
    assert absence(path).case == "none"
    assert "parameters and buffers" in told(path) or "bias" in told(path)


def renamed(tmp_path: Path, **changed: str) -> Path:
    """A convolution with a bias of which the file tells nothing, but what is changed."""
    names = {"weight": "w", "bias": "b", "output": "y"} | changed
    node = onnx.helper.make_node("Conv", ["x", names["weight"], names["bias"]], [names["output"]])
    constants = {names["weight"]: models.normal(4, 3, 1, 1), names["bias"]: models.normal(4)}
    return models.save(
        tmp_path, models.graph_model([node], {"x": ["n", 3, 4, 4]}, [names["output"]], constants)
    )


def test_where_nothing_tells_nothing_is_claimed(tmp_path: Path) -> None:
    path = renamed(tmp_path)
    assert absence(path).case == "unknown"
    assert "1 convolution with a bias" in told(path)
    assert absence(path).fix.startswith("if the network has BatchNorm")


@pytest.mark.parametrize(
    ("changed", "told_by", "advice"),
    [
        (
            {"weight": "conv_weights_fused_bn", "bias": "conv_bias_fused_bn"},
            "tf2onnx",
            "from_keras",
        ),
        (
            {"output": "model/bn_conv1/FusedBatchNormV3:0"},
            "are named after 1 BatchNormalization layer: model/bn_conv1",
            "model.save('model.keras')",
        ),
        ({"output": "/bn1/BatchNormalization_output_0"}, "has the name of a BatchNorm's", "before"),
        (
            {"output": "/bn1/Batch_Norm_0", "weight": "/bn1/Batch_Norm_0_weight"},
            "has the name of a BatchNorm's",
            "onnxslim",
        ),
    ],
)
def test_names_that_optimisers_leave(
    tmp_path: Path, changed: dict[str, str], told_by: str, advice: str
) -> None:
    path = renamed(tmp_path, **changed)
    assert absence(path).case == "folded"
    assert told_by in told(path)
    assert advice in absence(path).fix


# As TensorFlow 2.15 and 2.21 with tf2onnx 1.16.1 and 1.17.0 name them: the layer, what its output is called,
# what its bias is called.
TENSORFLOW = {
    "tflite-2.15": (
        "model_1/re_lu_1/Relu;model_1/batch_normalization_1/FusedBatchNormV3;model_1/conv2d_1/BiasAdd;"
        "model_1/conv2d_1/Conv2D1",
        "bias",
        "model_1/batch_normalization_1",
    ),
    "tflite-2.21": (
        "net_1/re_lu_4_1/Relu;net_1/bn1_1/batchnorm/add_1;net_1/c1_1/convolution;net_1/bn1_1/batchnorm/sub1",
        "net_1/bn1_1/batchnorm/sub",
        "net_1/bn1_1",
    ),
    "tflite-dense": (
        "net/dense_2_1/MatMul;net/bn4/batchnorm/mul_1;net/re_lu_7/Relu;net/bn4/batchnorm/add_1",
        "bias",
        "net/bn4",
    ),
    "tf2onnx-2.21": ("Conv__317:0", "net_1/bn1_1/batchnorm/sub:0", "net_1/bn1_1"),
}


@pytest.mark.parametrize("case", sorted(TENSORFLOW))
@pytest.mark.parametrize("first", ["net/bn0/batchnorm/mul_1", "net/bn0/FusedBatchNormV32", ""])
def test_what_tensorflow_took_apart_is_told_by_its_short_names(
    tmp_path: Path, case: str, first: str
) -> None:
    output, bias, layer = TENSORFLOW[case]
    node = onnx.helper.make_node
    nodes = [
        node("Mul", ["x", "s"], ["m"], name=first),
        node("Add", ["m", "t"], ["a"]),
        node("Conv", ["a", "w", bias], [output], name=output),
        node("Relu", [output], ["y"]),
    ]
    constants = {"s": models.normal(1, 3, 1, 1), "t": models.normal(1, 3, 1, 1)}
    constants |= {"w": models.normal(4, 3, 1, 1), bias: models.normal(4)}
    proto = models.graph_model(
        nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants, producer_name="tf2onnx"
    )
    path = models.save(tmp_path, proto)
    found = absence(path)
    assert found.case == "folded"
    evidence = told(path)
    assert f"1 BatchNormalization layer: {layer}" in evidence
    assert (
        ("TFLite joined" in evidence) == ("TFLite converter folds" in found.fix) == (";" in output)
    )
    assert "'model.keras'" in found.fix
    assert "remove_back_to_back" not in found.fix
    left = [norm.name for norm in inspect_onnx(path).decomposed]
    assert left == (["net/bn0"] if first else [])  # without a name it is any scale and shift
    assert ("nothing in front to fold into: net/bn0" in evidence) is bool(first)
    assert evidence.count(";") <= 1


@pytest.mark.parametrize("name", ["/stem/subnet/Conv_output_0", "albnum.1/out", "bn_like_things"])
def test_names_that_only_look_like_it(tmp_path: Path, name: str) -> None:
    assert absence(renamed(tmp_path, output=name)).case == "unknown"


@pytest.mark.parametrize(
    ("key", "value", "told_by"),
    [
        (
            "onnxsim.removed_nodes",
            "Constant (/c), BatchNormalization (/bn1/BatchNormalization), BatchNormalization (/b/B)",
            "removed 2 BatchNormalization nodes: /bn1/BatchNormalization, /b/B",
        ),
        ("author", "Ultralytics", "whose exporter fuses Conv and BatchNorm"),
    ],
)
def test_notes_in_the_model(tmp_path: Path, key: str, value: str, told_by: str) -> None:
    proto = onnx.load(renamed(tmp_path))
    proto.metadata_props.add(key=key, value=value)
    path = models.save(tmp_path, proto)
    assert absence(path).case == "folded"
    assert told_by in told(path)


def test_a_counter_without_its_layer_and_one_with(tmp_path: Path) -> None:
    proto = onnx.load(models.one_batchnorm(tmp_path))
    for name in ("bn", "other.bn"):
        counter = onnx.numpy_helper.from_array(np.array(525), f"{name}.num_batches_tracked")
        proto.graph.initializer.append(counter)
    path = models.save(tmp_path, proto)
    assert [layer.batches_tracked for layer in inspect_onnx(path).batchnorms] == [525]
    assert absence(path).case == "partly-folded"
    assert told(path) == (
        "running statistics of 1 layer are stored and nothing reads them: other.bn"
    )


def test_statistics_that_nothing_reads(tmp_path: Path) -> None:
    proto = onnx.load(renamed(tmp_path))
    for name in ("running_mean", "running_var"):
        left = onnx.numpy_helper.from_array(models.normal(4), f"layer.bn.{name}")
        proto.graph.initializer.append(left)
    path = models.save(tmp_path, proto)
    assert absence(path).case == "folded"
    assert "running statistics of 1 layer are stored and nothing reads them: layer.bn" in told(path)


@pytest.mark.parametrize("kind", ["QOperator", "QDQ"])
def test_quantised_models(tmp_path: Path, kind: str) -> None:
    from onnxruntime import quantization

    net = nets.trained(nets.Residual())
    source = nets.export(net, tmp_path / "s.onnx", **nets.DYNAMO)

    class Once(quantization.CalibrationDataReader):  # type: ignore[misc]
        batches = iter([{"x": nets.images(net).numpy()}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    path = tmp_path / "q.onnx"
    form = getattr(quantization.QuantFormat, kind)
    quantization.quantize_static(str(source), str(path), Once(), quant_format=form)
    assert absence(path).case == "quantised"
    assert "quantisation nodes" in told(path)
    assert "before quantisation" in absence(path).fix


def test_weight_standardisation_is_no_layer_of_activations(tmp_path: Path) -> None:
    net = nn.Sequential(nets.Standardised(3, 4, 3), nn.ReLU()).eval()
    path = nets.export(net, tmp_path / "m.onnx", **nets.TORCHSCRIPT)
    inspection = inspect_onnx(path)
    assert [layer.of_weights for layer in inspection.batchnorms] == [True]
    assert any("weight standardisation" in note for note in inspection.notes)


class Mlp(nn.Module):
    """Linear layers without bias, which ONNX Runtime writes as MatMul and folds BatchNorm into."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm1 = nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6)
        self.fc2, self.norm2 = nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm2(self.fc2(torch.relu(self.norm1(self.fc1(x))))))


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL", "DISABLE_ALL"])
def test_onnx_runtimes_product_with_batchnorm_is_named(tmp_path: Path, level: str) -> None:
    """At every level; and its remedy, to disable the optimiser, keeps BatchNorm."""
    torch.manual_seed(0)
    net = Mlp().train()
    for _ in range(20):
        net(2 * torch.randn(32, 8) + 1)
    preserve = torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.randn(4, 8),),
            str(tmp_path / "m.onnx"),
            dynamo=False,
            training=preserve,
        )
    options = onnxruntime.SessionOptions()
    name = f"ORT_{level}" if level == "DISABLE_ALL" else f"ORT_ENABLE_{level}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, name)
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"]
    )
    found = inspect_onnx(tmp_path / "o.onnx")
    if level == "DISABLE_ALL":
        assert [b.name for b in found.batchnorms] == ["norm1", "norm2"]
        return
    assert found.absence is not None
    assert found.absence.case == "folded"
    assert "MatMulBnFusion_GemmB_..., which ONNX Runtime" in found.absence.evidence[0]
    assert "ORT_DISABLE_ALL" in found.absence.fix


@pytest.mark.parametrize("version", ["1.9", "2.4", "2.5", "2.13.0"])
def test_the_remedy_of_the_older_exporter_works_today(tmp_path: Path, version: str) -> None:
    """Whatever PyTorch wrote the file, the call is carried out with the one that is installed."""
    call = keep("torchscript", "torch.onnx TorchScript", version).removeprefix("export it with ")
    call = call.partition(" (PyTorch before")[0]
    net = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    names = {"torch": torch, "net": net, "x": torch.randn(2, 1, 8, 8), "path": str(tmp_path / "m")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eval(call, names)  # noqa: S307 - the text under test
    assert [b.name for b in inspect_onnx(tmp_path / "m").batchnorms] == ["1"]
    assert ("leave it out" in keep("torchscript", "", version)) is (version in ("1.9", "2.4"))
