"""The arguments of a call as trees: tuples, lists and keyword mappings of tensors and constants.

PyTorch's pytree knows every container there is, and takes more time than many a call that it looks into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors, in order."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    found: list[Tensor] = []
    for branch in _branches(tree):
        found += tensors_in(branch)
    return found


def leaves_of(tree: Any) -> list[Any]:
    """Whatever is no container, in order."""
    if not isinstance(tree, tuple | list | dict):
        return [tree]
    return [leaf for branch in _branches(tree) for leaf in leaves_of(branch)]


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with `function` of every leaf; lists become lists, tuples tuples."""
    if isinstance(tree, tuple | list):
        found = [mapped(function, branch) for branch in tree]
        return found if isinstance(tree, list) else tuple(found)
    if isinstance(tree, dict):
        return {key: mapped(function, branch) for key, branch in tree.items()}
    return function(tree)


def _branches(tree: Any) -> Any:
    if isinstance(tree, dict):
        return tree.values()
    return tree if isinstance(tree, tuple | list) else ()
