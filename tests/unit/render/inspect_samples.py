"""Inspections to render: healthy, sick, without BatchNorm, hostile."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING, Any

from bnaudit.documents import InspectionReport
from bnaudit.records.finding import Finding, RuleNotRun, Severity, Suppressed
from bnaudit.records.inspection import (
    Absence,
    BatchNormStatics,
    DecomposedNorm,
    Feeder,
    Inspection,
)
from bnaudit.records.model import TensorInfo
from bnaudit.summary.gain import eps_notes

if TYPE_CHECKING:
    from collections.abc import Callable


def layer(name: str, channels: int = 8, **changed: Any) -> BatchNormStatics:
    """gamma runs from 0.5 to 2, sigma is about 1."""
    steps = [i / max(channels - 1, 1) for i in range(channels)]
    given: dict[str, Any] = {
        "eps": 1e-5,
        "momentum": 0.1,
        "training": False,
        "dtype": "float32",
        "gamma": tuple(0.5 + 1.5 * step for step in steps),
        "beta": (0.0,) * channels,
        "running_mean": (0.1,) * channels,
        "running_var": (1.0,) * channels,
        "feeder": Feeder(
            f"{name.replace('bn', 'conv')}.weight", "Conv", bias=False, sole_reader=True
        ),
        "preceded_by": "Conv",
        "of_weights": False,
    }
    return BatchNormStatics(
        name, f"node '/{name}/BatchNormalization' (BatchNormalization)", channels, **given | changed
    )


def inspection(*layers: BatchNormStatics, **changed: Any) -> Inspection:
    given: dict[str, Any] = {
        "path": "resnet.onnx",
        "kind": "onnx",
        "producer": "pytorch 2.13.0",
        "facts": {"opset": "20", "exporter": "torch.onnx dynamo"},
        "size": 46_812_345,
        "parameters": 11_689_512,
        "inputs": (TensorInfo("x", ("batch", 3, 224, 224), "float32"),),
        "outputs": ("logits",),
        "batchnorms": layers,
        "weight_layers": 21,
    }
    return Inspection(**given | changed)


def healthy() -> InspectionReport:
    layers = (
        layer("bn1", 64),
        layer("layer1.0.bn1", 64, running_var=(4.0,) * 64),
        layer("layer1.0.downsample.1", 128, gamma=(3.0,) * 128),
        layer("head.norm", 512, preceded_by="Relu", feeder=None, eps=1e-3),
    )
    return InspectionReport(inspection(*layers), fail_on=Severity.ERROR)


def sick() -> InspectionReport:
    layers = (
        layer("bn1", training=True),
        layer("bn2", running_var=(1.0, nan, -1.0, inf, 0.0, 1.0, 1.0, 1.0)),
        layer("bn3", running_mean=None, running_var=None),
        layer("bn4", running_var=(nan,) * 8),
        layer("bn5", gamma=None, beta=None, dtype="float16", scale_absorbed=True),
        layer("ws", of_weights=True, feeder=None, channels=0, running_var=(), gamma=()),
    )
    findings = (
        Finding(
            "BN005", "train-mode", Severity.ERROR, "bn1", "asks for batch statistics", "call eval()"
        ),
        Finding(
            "BN004", "bad-variance", Severity.WARNING, "bn2", "2 channels below 0", "look at it"
        ),
        Finding("BN016", "bias", Severity.INFO, "bn5", "a bias that nothing sees", "none needed"),
    )
    silenced = Suppressed(findings[2], "ignore: BN016")
    return InspectionReport(
        inspection(*layers, notes=("2 layers share their weights",)),
        findings,
        (silenced,),
        (RuleNotRun("BN101", "integrity", "needs a run of the model (bnaudit check)"),),
        fail_on=Severity.ERROR,
    )


def folded() -> InspectionReport:
    """With the finding as BN001 words it."""
    from bnaudit.judge.verdicts import judge_inspection

    absence = Absence(
        "folded",
        (
            "the exporter left its note FuseBatchNormIntoConv at 20 layers with weights: bn1, "
            "layer1.0.bn1, layer1.0.bn2 and 17 more",
        ),
        "export it with torch.onnx.export(net.eval(), (x,), path, dynamo=True, optimize=False)",
    )
    read = inspection(absence=absence)
    return InspectionReport(read, judge_inspection(read).findings, fail_on=Severity.ERROR)


def frozen() -> InspectionReport:
    norms = tuple(
        DecomposedNorm(
            f"layer{i}.bn", f"node '/layer{i}/bn/Mul' (Mul, then Add)", 64, f"layer{i}.weight"
        )
        for i in range(25)
    )
    absence = Absence(
        "frozen", ("25 layers with weights followed by a per-channel a*x + b",), "unfreeze"
    )
    read = inspection(
        absence=absence, decomposed=norms, other_norms={"GroupNorm": 3, "LayerNorm": 1}
    )
    return InspectionReport(read, allow_no_bn=True)


def state_dict() -> InspectionReport:
    """A checkpoint: no graph, no eps, a counter."""
    names = ("bn1", "layer1.0.bn1")
    layers = [
        layer(
            name,
            eps=None,
            momentum=None,
            training=None,
            batches_tracked=12_500,
            feeder=None,
            preceded_by=None,
            of_weights=None,
        )
        for name in names
    ]
    read = inspection(
        *layers,
        path="epoch_90.pt",
        kind="checkpoint",
        producer=None,
        facts={},
        inputs=(),
        outputs=(),
        weight_layers=None,
        notes=eps_notes(layers),
    )
    return InspectionReport(read, fail_on=None)


def hostile() -> InspectionReport:
    names = ("\x1b[31mred", "[bold red]x[/]", "a\nb", "\u202eevil", "x" * 300, "図" * 40)
    read = inspection(
        *(layer(name, preceded_by="\x1b[2J", dtype="\x07") for name in names),
        path="/\x1b]0;owned\x07.onnx",
        producer="\x9b31m",
        notes=("note\r\x1b[1A",),
        other_norms={"\x1b[5mNorm": 1},
    )
    return InspectionReport(read)


ALL: dict[str, Callable[[], InspectionReport]] = {
    f.__name__: f for f in (healthy, sick, folded, frozen, state_dict, hostile)
}
