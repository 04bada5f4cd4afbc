"""Small inspections for the examples of rules: a healthy file, and the same with one thing changed."""

from __future__ import annotations

from dataclasses import replace

from bnaudit.records.inspection import Absence, BatchNormStatics, Feeder, Inspection

CHANNELS = 16
LAYERS = ("stem.bn", "block1.bn", "block2.bn", "head.bn")


def statics(name: str) -> BatchNormStatics:
    """A layer of 16 channels whose values spread as those of a trained layer do."""
    place = LAYERS.index(name) if name in LAYERS else len(LAYERS)
    wave = [((7 * channel + 3 * place) % CHANNELS) / CHANNELS for channel in range(CHANNELS)]
    return BatchNormStatics(
        name=name,
        origin=f"BatchNormalization node /{name}",
        channels=CHANNELS,
        eps=1e-5,
        momentum=0.1,
        training=False,
        batches_tracked=4000,
        dtype="float32",
        gamma=tuple(0.7 + 0.5 * w for w in wave),
        beta=tuple(0.4 * w - 0.25 for w in wave),
        running_mean=tuple(0.6 * w - 0.3 for w in wave),
        running_var=tuple(0.2 + 0.6 * w for w in wave),
        feeder=Feeder(name.replace("bn", "conv.weight"), "Conv", bias=False, sole_reader=True),
        preceded_by="Conv",
    )


def inspection() -> Inspection:
    """A healthy ONNX file with four BatchNorm layers: no rule finds anything in it."""
    return Inspection(
        path="model.onnx",
        kind="onnx",
        producer="pytorch 2.13.0",
        facts={"opset": "18"},
        size=41_000,
        parameters=10_000,
        batchnorms=tuple(statics(name) for name in LAYERS),
        weight_layers=5,
    )


def changed(name: str, **values: object) -> Inspection:
    """The healthy file with fields of one layer set.

    Args:
        name: which layer.
        values: fields of `BatchNormStatics`.
    """
    layer = replace(statics(name), **values)  # type: ignore[arg-type]  # fields by name
    healthy = inspection()
    return replace(
        healthy,
        batchnorms=tuple(layer if bn.name == name else bn for bn in healthy.batchnorms),
    )


def everywhere(**values: object) -> Inspection:
    """The healthy file with the same fields set in every layer."""
    healthy = inspection()
    layers = [replace(bn, **values) for bn in healthy.batchnorms]  # type: ignore[arg-type]
    return replace(healthy, batchnorms=tuple(layers))


def with_value(values: tuple[float, ...] | None, channel: int, value: float) -> tuple[float, ...]:
    """The same values with one channel's replaced."""
    kept = list(values or ())
    kept[channel] = value
    return tuple(kept)


_KEPT = "torch.onnx.export(net.eval(), (x,), path, optimize=False)"


def folded() -> Inspection:
    """A file in which no BatchNorm is left."""
    absence = Absence("folded", ("5 convolutions have a bias that the exporter computed",), _KEPT)
    return replace(inspection(), batchnorms=(), absence=absence)


def partly_folded() -> Inspection:
    """A file in which one BatchNorm is left and others were folded."""
    absence = Absence(
        "partly-folded", ("3 convolutions have a bias that the exporter computed",), _KEPT
    )
    return replace(inspection(), batchnorms=(statics("head.bn"),), absence=absence)
