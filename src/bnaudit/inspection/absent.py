"""Why a file of weights or modules has no BatchNorm: what its names and classes say of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.inspection.layers import ROLES, few, own_forms, paired
from bnaudit.inspection.named import groups, members, split
from bnaudit.load.pickles.objects import StoredTensor
from bnaudit.records.inspection import Absence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bnaudit.inspection.layers import Layer

KEEP_STATE = (
    "if the network has BatchNorm: torch.save(net.state_dict(), path), before anything fuses it"
)
NOTHING = "none if the network has no BatchNorm; " + KEEP_STATE
_UNTRACKED = (
    "none if these are LayerNorm or GroupNorm, which torch.save(net, path) of the whole module tells bnaudit "
    "inspect; a BatchNorm with track_running_stats=False has no statistics to save: train it with True"
)
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


BEFORE_DEPLOYMENT = (
    "audit the network as it was trained, from before it was switched to its form for deployment"
)
_REPARAMETERISED = re.compile(
    r"(.*?(?:^|[./_])reparam(?:eteri[sz]ed)?(?:_\w+)?)(?:[./]|$)", re.IGNORECASE
)


def reparameterised(names: Iterable[str]) -> Absence | None:
    """BatchNorm that went into one convolution with the branches of a block (RepVGG, MobileOne)."""
    found = {m[1]: None for name in names if (m := _REPARAMETERISED.match(name))}
    if not found:
        return None
    return Absence(
        "folded",
        (
            f"{_layers(len(found))} called {few(list(found))}: a re-parameterised network, whose blocks "
            "had BatchNorm in their branches while it was trained",
        ),
        BEFORE_DEPLOYMENT,
    )


def absent_by_names(tensors: Mapping[str, StoredTensor]) -> Absence:
    """Why a state_dict has no running statistics that can be judged."""
    told = unpaired(tensors) or reparameterised(tensors)
    if told is not None:
        return told
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
        what = f"{_layers(len(called))} called {few(called)} with weight and bias but without "
        return Absence(
            "unknown",
            (
                f"{what}running_mean and running_var",
                "named_parameters() leaves buffers out; track_running_stats=False has none",
            ),
            "save with the buffers: torch.save(net.state_dict(), path); with track_running_stats=False there "
            "are none, and each answer depends on the batch: train it with True",
        )
    if pairs:
        by_name = all(_NORM_NAME.search(p) for p in pairs)
        what = f"{_layers(len(pairs))} with a vector weight and bias and no running statistics "
        others = (
            "as LayerNorm and GroupNorm have them, and BatchNorm with track_running_stats=False"
        )
        return Absence(
            "other-normalisation" if by_name else "unknown",
            (f"{what}({few(pairs)}), {others}, whose answers depend on the batch",),
            _UNTRACKED,
        )
    return _weights_alone(tensors)


def _weights_alone(tensors: Mapping[str, StoredTensor]) -> Absence:
    """Convolutions that all have a bias are what folding leaves; weight normalisation needs no BatchNorm."""
    direct = [n for n in tensors if n.endswith(("weight_g", "weight.original0"))]
    if direct:
        what = f"weight normalisation of {_layers(len(direct))} ({few(direct)})"
        return Absence("other-normalisation", (what,), NOTHING)
    convolutions = [n for n, t in tensors.items() if len(t.shape) >= 3 and split(n)[1] == "weight"]
    biased = [n for n in convolutions if n.removesuffix("weight") + "bias" in tensors]
    if not convolutions or len(biased) < len(convolutions):
        return Absence("none", ("no tensors of a normalisation",), NOTHING)
    return Absence(
        "unknown",
        (
            f"no normalisation, and each of the {len(convolutions)} convolutions has a bias: so looks a "
            "network after folding, and one that never had BatchNorm",
        ),
        NOTHING,
    )


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


def unpaired(tensors: Mapping[str, StoredTensor]) -> Absence | None:
    """A normalisation with running statistics that are not a BatchNorm's four vectors, if there is one."""
    odd = odd_statistics(tensors)
    return replace(own_forms(odd), fix=_UNPAIRED) if odd else None


_UNPAIRED = (
    "none with these tensors: bnaudit judges layers with one mean and one variance a channel, as "
    "torch.nn.BatchNorm2d has them"
)


def odd_statistics(tensors: Mapping[str, StoredTensor]) -> list[tuple[str, str]]:
    """Prefixes with a running mean and variance that cannot be paired, and the sizes of their tensors."""
    found = []
    for group in groups(tensors).values():
        own = members(tensors, group)
        statistics = any("mean" in n for n in own) and any("var" in n for n in own)
        told = any(n not in ("mean", "var", "variance", "weight", "bias") for n in own)
        if statistics and told and paired(own) is None:
            sizes = ", ".join(f"{n} {list(t.shape)}" for n, t in own.items() if ROLES[n] != "count")
            found.append((group.prefix, f"a normalisation of its own form ({sizes})"))
    return found


def absent_by_classes(layers: Sequence[Layer], norms: Mapping[str, int]) -> Absence:
    """Why a module has no BatchNorm among its submodules."""
    told = unpaired(layer_tensors(layers)) or reparameterised(layer.path for layer in layers)
    if told is not None:
        return told
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


def layer_tensors(layers: Iterable[Layer]) -> dict[str, StoredTensor]:
    """The tensors of modules by the names that a state_dict would give them."""
    return {
        f"{layer.path}.{own}" if layer.path else own: tensor
        for layer in layers
        if layer.other_norm is None
        for own, tensor in layer.values.items()
        if isinstance(tensor, StoredTensor)
    }


def _paths(layers: Sequence[Layer]) -> str:
    return few([layer.path for layer in layers])


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"
