"""The graph: an input and three primitives on vectors (Lemma 1 of Jordan and Dimakis, 2020).

========== ======================= ============================================
operator   class                   meaning
========== ======================= ============================================
affine     :class:`Affine`         y = sum_k W_k x_k + b
conditional :class:`Conditional`   a_i = 1 if x_i > 0, 0 if x_i < 0, either at 0
switch     :class:`Switch`         y_i = a_i x_i
========== ======================= ============================================

Nodes are frozen and compared by identity, so graphs share nodes: a derivative shares the gates of
its network. The set of primitives is closed; every pass over it is one ``match``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp

from lipexact.errors import ModelError
from lipexact.numerics.arrays import Matrix, Vector


@dataclass(frozen=True, eq=False)
class Input:
    """A vector of free variables; the user of the graph says what they range over."""

    size: int
    name: str = "x"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ModelError(
                f"input '{self.name}' has size {self.size}; it needs at least one entry"
            )


@dataclass(frozen=True, eq=False)
class Affine:
    """The affine node y = sum_k W_k x_k + b: its terms are the pairs (W_k, x_k), its bias is b.

    Without terms it is the constant b.
    """

    terms: tuple[tuple[Matrix, Value], ...] = field(repr=False)
    bias: Vector = field(repr=False)
    name: str = ""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        bias = np.array(self.bias, dtype=np.float64)
        if bias.size == 0:
            raise ModelError(f"affine '{self.name}' is empty")
        if bias.ndim != 1:
            raise ModelError(
                f"affine '{self.name}': the bias must be a vector, not of shape {bias.shape}"
            )
        terms = tuple((_matrix(weight), x) for weight, x in self.terms)
        for weight, x in terms:
            if weight.shape != (bias.size, x.size):
                raise ModelError(
                    f"affine '{self.name}': a weight of shape {weight.shape} does not map "
                    f"{x.size} entries to {bias.size}"
                )
        stored = [weight.data if sp.issparse(weight) else weight for weight, _ in terms]
        if not all(np.isfinite(array).all() for array in (bias, *stored)):
            raise ModelError(
                f"affine '{self.name}' has weights, or products of weights, "
                "that are NaN or infinite"
            )
        bias.setflags(write=False)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "size", int(bias.size))

    def __getstate__(self) -> dict[str, object]:
        """Leave out the transposes, which another process makes anew."""
        return {name: value for name, value in self.__dict__.items() if name != "transposed"}

    @cached_property
    def transposed(self) -> tuple[Matrix, ...]:
        """The transposes of the weights, shared by all derivatives."""
        return tuple(_matrix(weight.T) for weight, _ in self.terms)


@dataclass(frozen=True, eq=False)
class Conditional:
    """The gates a_i = 1 if x_i > 0, 0 if x_i < 0, and either if x_i = 0."""

    x: Value = field(repr=False)
    name: str = ""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.x.size)


@dataclass(frozen=True, eq=False)
class Switch:
    """The products y_i = a_i x_i for the gates a of a :class:`Conditional`."""

    x: Value = field(repr=False)
    gate: Conditional = field(repr=False)
    name: str = ""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        if self.x.size != self.gate.size:
            raise ModelError(
                f"switch '{self.name}': {self.gate.size} gates cannot switch {self.x.size} entries"
            )
        object.__setattr__(self, "size", self.x.size)


Value: TypeAlias = Input | Affine | Switch
Node: TypeAlias = Input | Affine | Conditional | Switch


def operands(node: Node) -> tuple[Node, ...]:
    """Return the nodes that `node` reads."""
    match node:
        case Input():
            return ()
        case Affine():
            return tuple(x for _, x in node.terms)
        case Conditional():
            return (node.x,)
        case Switch():
            return (node.x, node.gate)


def topological(roots: Iterable[Node]) -> tuple[Node, ...]:
    """Return every node that the roots depend on, operands first, each once."""
    order: dict[Node, None] = {}
    stack: list[tuple[Node, Iterator[Node]]] = [
        (root, iter(operands(root))) for root in reversed(list(roots))
    ]
    while stack:
        node, rest = stack[-1]
        below = next((x for x in rest if x not in order), None)
        if below is not None:
            stack.append((below, iter(operands(below))))
        else:
            stack.pop()
            order.setdefault(node)
    return tuple(order)


@dataclass(frozen=True, eq=False)
class Graph:
    """Outputs as functions of inputs.

    Raises
    ------
    ModelError
        If an output depends on an `Input` that is not listed.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Value, ...]

    def __post_init__(self) -> None:
        for node in self.nodes:
            if isinstance(node, Input) and node not in self.inputs:
                raise ModelError(
                    f"the graph reads input '{node.name}', which is not among its inputs"
                )

    def __getstate__(self) -> dict[str, object]:
        """Put the nodes first, operands before their readers.

        So no node is pickled inside another one, which would recurse as deep as the graph is.
        """
        return {"nodes": self.nodes, "inputs": self.inputs, "outputs": self.outputs}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes below the outputs, operands first."""
        return topological(self.outputs)

    @cached_property
    def gates(self) -> tuple[Conditional, ...]:
        """The conditionals, in topological order."""
        return tuple(node for node in self.nodes if isinstance(node, Conditional))


def _matrix(weight: Matrix) -> Matrix:
    """Return a read-only copy of a matrix in float64; a weight of another node is shared."""
    if sp.issparse(weight):
        parts = (
            (weight.data, weight.indices, weight.indptr) if isinstance(weight, sp.csr_array) else ()
        )
        frozen = (
            parts and weight.dtype == np.float64 and not any(part.flags.writeable for part in parts)
        )
        if frozen and weight.has_canonical_format:
            return weight  # it belongs to another node: derivatives share the weights
        matrix = sp.csr_array(weight, dtype=np.float64, copy=True)
        matrix.sum_duplicates()
        for part in (matrix.data, matrix.indices, matrix.indptr):
            part.setflags(write=False)
        return matrix
    array = np.array(weight, dtype=np.float64)
    if array.ndim != 2:
        raise ModelError(f"a weight must be a matrix, not of shape {array.shape}")
    array.setflags(write=False)
    return array
