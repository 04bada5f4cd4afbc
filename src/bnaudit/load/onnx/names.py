"""The layer name that the network's author knows, from whatever the exporter left of it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from bnaudit.load.onnx.origin import Origin

_PARAMETERS = ("weight", "bias", "running_mean", "running_var")
_REPEATED_CALL = re.compile(r"_\d+$")
_SEPARATOR = re.compile(r"[._/:-]+[^._/:-]*$")


_KERAS = re.compile(
    r"([^;:]*?)/(?:batchnorm|FusedBatchNorm(?:V\d)?|batch_norm)(?:/[^;]*|\d*)?(?=[;:]|$)"
)


def keras_layers(text: str) -> list[str]:
    """The BatchNormalization layers by whose operators TensorFlow named something, once each.

    TensorFlow names an operator after the layer's path, TFLite joins those of all that it fused with ';'.
    """
    return list(dict.fromkeys(match[1] for match in _KERAS.finditer(text)))


def layers_by_use(origins: Sequence[Origin], content: Callable[[str], Hashable]) -> list[Origin]:
    """For each BatchNorm node the first node of the same layer, itself where it is the first.

    A layer that is called twice is two nodes that share all of gamma, beta, statistics and eps. Tools that
    store equal tensors once make parts of several layers one (two layers on one value have the same
    statistics), and PyTorch's dynamo exporter records other scopes for them.

    Args:
        origins: the nodes.
        content: of the name of a gamma or beta: what is equal where two are one. The name itself of what
            the file stores, the value of a constant that a node holds for itself, and None of what is
            computed: gamma and beta of a layer without any are ones and zeros made up for each call.
    """
    first: dict[tuple[object, ...], Origin] = {}
    keys = (
        (o.inputs[3:5], *map(content, o.inputs[1:3]), o.eps, module_of(o.scopes)) for o in origins
    )
    return [first.setdefault(key, o) for key, o in zip(keys, origins, strict=True)]


def layer_names(origins: Sequence[Origin]) -> list[str]:
    """One unique name for each BatchNorm node, in their order.

    Parameter names are what PyTorch's state_dict has and come first. They mislead where the
    file stores equal weights of several layers once: then those that the node alone reads decide, and
    after them the node's own name, if it tells the layers apart.
    """
    readers = Counter(name for origin in origins for name in origin.inputs[1:5])
    by_parameter = [_from_parameters(origin) for origin in origins]
    clashing = _repeated(by_parameter)
    prefixes = [_common_prefix(origin) for origin in origins]
    meaningless = _repeated(prefixes)  # 'onnx::BatchNormalization' of every layer
    names: list[str] = []
    for index, (origin, own, prefix) in enumerate(
        zip(origins, by_parameter, prefixes, strict=True)
    ):
        name = own
        if own in clashing:
            alone = _prefixes(n if readers[n] == 1 else "" for n in origin.inputs[1:5])
            name = next(iter(alone)) if len(alone) == 1 else ""
        name = name or module_of(origin.scopes) or _from_path(origin) or own
        name = name or (prefix if prefix not in meaningless else "")
        names.append(name or origin.name or f"BatchNormalization_{index}")
    return _unique(names)


def _repeated(names: list[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


def _from_parameters(origin: Origin) -> str:
    """'layer1.0.bn1' where at least two parameters agree on it, as 'layer1.0.bn1.running_var'."""
    prefixes = _prefixes(origin.inputs[1:5])
    if not prefixes:
        return ""
    name, votes = prefixes.most_common(1)[0]
    return name if votes > 1 else ""


def _prefixes(names: Iterable[str]) -> Counter[str]:
    """Of the parameters in their order, those that are named as PyTorch names them."""
    return Counter(
        name.removesuffix(f".{suffix}")
        for name, suffix in zip(names, _PARAMETERS, strict=False)
        if name.endswith(f".{suffix}")
    )


def module_of(scopes: str) -> str:
    """The module in the dynamo exporter's scopes: the entry before the last, which is the operator."""
    try:
        found = ast.literal_eval(scopes)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(found, list) or len(found) < 2 or not isinstance(found[-2], str):
        return ""
    return found[-2]


def _from_path(origin: Origin) -> str:
    """'/layer1/layer1.0/bn1/BatchNormalization' -> 'layer1.0.bn1', as TorchScript exports name it.

    A child of a Sequential repeats its parent's name ('layer1', 'layer1.0'). A second call of a
    module gets a number appended ('bn_1'), which only the parameters' names can tell from a module
    that is called so.
    """
    if not origin.name.startswith("/"):
        return ""
    parts: list[str] = []
    for part in origin.name.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    own = _from_parameters(origin)
    pairs = zip_longest(".".join(parts).split("."), own.split("."), fillvalue="")
    is_repeated = all(a == b or _REPEATED_CALL.sub("", a) == b for a, b in pairs)
    return own if own and is_repeated else ".".join(parts)


def _common_prefix(origin: Origin) -> str:
    """What the four parameters' names have in common, cut at the last separator."""
    if len(origin.inputs) < 5:
        return ""
    columns = zip(*origin.inputs[1:5], strict=False)
    common = takewhile(lambda letters: len(set(letters)) == 1, columns)
    prefix = "".join(letters[0] for letters in common)
    cut = _SEPARATOR.search(prefix)
    return prefix[: cut.start()] if cut else ""


def _unique(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    taken = set(names)
    unique: list[str] = []
    for name in names:
        seen[name] += 1
        candidate = name
        while seen[name] > 1 and candidate in taken:
            candidate = f"{name}#{seen[name]}"
            seen[name] += candidate in taken
        taken.add(candidate)
        unique.append(candidate)
    return unique
