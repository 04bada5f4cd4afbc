"""A node as the file has it: what names and remedies are derived from. Needs no onnx."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """A node as the file has it, before anything is rewritten.

    Attributes:
        op: its operator.
        name: its name in the file, often empty.
        inputs: what it reads: the names of its parameters name the layer.
        scopes: the module path a dynamo export recorded, outermost first.
        eps: of a BatchNorm, where the node says one.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    scopes: str
    eps: float | None = None

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})" if self.name else f"a {self.op} node"
