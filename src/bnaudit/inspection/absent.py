"""Why a file of weights or modules has no BatchNorm: what its names and classes say of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bnaudit.inspection.named import groups, split
from bnaudit.records.inspection import Absence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.inspection.layers import Layer
    from bnaudit.load.pickles.objects import StoredTensor

KEEP_STATE = (
    "if the network has BatchNorm: torch.save(net.state_dict(), path), before anything fuses it"
)
NOTHING = "none if the network has no BatchNorm; " + KEEP_STATE
_QUANTISED_OWN = {
    "zero_point",
    "_packed_params",
    "weight_scale",
    "weight_zero_point",
    "qweight",
    "fake_quant_enabled",
    "observer_enabled",
    "quant_state",
}
_BN_NAME = re.compile(
    r"(?:^|[._/])(?:bn|batch_?norm(?:alization)?)(?:\d|_|$)[^./]*$", re.IGNORECASE
)
_NORM_NAME = re.compile(r"(?:norm|ln|gn)_?\w*$", re.IGNORECASE)
_FUSED_HOME = re.compile(r"\.nn\.intrinsic\b")
_QUANTISED_HOME = re.compile(r"\.nn\.(?:intrinsic\.)?quantized\b|\.nn\.quantizable\b")


def absent_by_names(tensors: Mapping[str, StoredTensor]) -> Absence:
    """Why a state_dict has no running statistics."""
    quantised = [
        name
        for name, tensor in tensors.items()
        if split(name)[1] in _QUANTISED_OWN or tensor.layout == "quantised"
    ]
    if quantised:
        return Absence(
            "quantised",
            (f"quantisation parameters ({few(quantised)})",),
            "audit the checkpoint before quantisation, which folds BatchNorm into the weights",
        )
    pairs = norm_pairs(tensors)
    called = [p for p in pairs if _BN_NAME.search(p)]
    if called:
        return Absence(
            "unknown",
            (
                f"{_layers(len(called))} called {few(called)} with weight and bias but without "
                "running_mean and running_var",
                "named_parameters() leaves buffers out; track_running_stats=False has none",
            ),
            "save with the buffers: torch.save(net.state_dict(), path)",
        )
    if pairs:
        by_name = all(_NORM_NAME.search(p) for p in pairs)
        return Absence(
            "other-normalisation" if by_name else "unknown",
            (
                f"{_layers(len(pairs))} with a vector weight and bias and no running statistics "
                f"({few(pairs)}), as LayerNorm and GroupNorm have them",
            ),
            NOTHING,
        )
    return _no_norm(tensors)


def norm_pairs(tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Prefixes with a vector gamma and a vector beta and no running statistics."""
    return [
        group.prefix
        for group in groups(tensors).values()
        if "mean" not in group.roles
        and "gamma" in group.roles
        and "beta" in group.roles
        and all(len(tensors[group.roles[r]].shape) == 1 for r in ("gamma", "beta"))
    ]


def _no_norm(tensors: Mapping[str, StoredTensor]) -> Absence:
    """Weights alone: convolutions that all have a bias are what folding leaves."""
    convolutions = [n for n, t in tensors.items() if len(t.shape) >= 3 and split(n)[1] == "weight"]
    biased = [n for n in convolutions if n.removesuffix("weight") + "bias" in tensors]
    if convolutions and len(biased) == len(convolutions):
        return Absence(
            "unknown",
            (
                "no normalisation, and each of the "
                f"{len(convolutions)} convolutions has a bias: so looks a network after folding, and "
                "one that never had BatchNorm",
            ),
            NOTHING,
        )
    return Absence("none", ("no tensors of a normalisation",), NOTHING)


def absent_by_classes(layers: Sequence[Layer], norms: Mapping[str, int]) -> Absence:
    """Why a module has no BatchNorm among its submodules."""
    quantised = [layer for layer in layers if _QUANTISED_HOME.search(layer.home)]
    if quantised:
        return Absence(
            "quantised",
            (f"{_layers(len(quantised))} of {quantised[0].home} ({_paths(quantised)})",),
            "audit the network before torch.ao quantisation folds BatchNorm into it",
        )
    left = [x for x in layers if x.kind == "Identity" and _BN_NAME.search(x.path)]
    fused = [x for x in layers if _FUSED_HOME.search(x.home)]
    if left or fused:
        why = [f"{_paths(left)}: an Identity where BatchNorm was"] if left else []
        why += [f"fused layers of {fused[0].home} ({_paths(fused)})"] if fused else []
        return Absence(
            "folded", tuple(why), "save the network before fuse_modules or its own fuse()"
        )
    if norms:
        kinds = ", ".join(f"{count} {kind}" for kind, count in norms.items())
        return Absence("other-normalisation", (kinds,), "none: another normalisation is in use")
    return Absence("none", ("no normalisation among its modules",), NOTHING)


def few(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(n or "the model itself" for n in names[:shown]) + more


def _paths(layers: Sequence[Layer]) -> str:
    return few([layer.path for layer in layers])


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"
