"""Back-substitution: the walk that pushes linear forms from a node down to the inputs.

The walk stands here once. How coefficients are stored, and what a node does to them, is said by
:class:`Rules`: sparse parts with one rounding error each (:mod:`lipexact.bounds.crown`), dense
arrays for many choices of gates at once (:mod:`lipexact.bounds.crown_batched`), and those with half
of each open gate (:mod:`lipexact.bounds.zonotope`).

For example, let y = 2 h1 - h2 + 1 with h = relu(z), z1 = x + 1, z2 = x - 1, and -1 <= x <= 1, so
that 0 <= z1 <= 2 and -2 <= z2 <= 0: the first gate is on, the second off. To bound y from above::

    node      pending forms          total
    y         {y: 1}                 0
    affine    {h: (2, -1)}           0 + 1           its bias
    switch    {z: (2, 0)}            1               h1 = z1, h2 = 0
    affine    {x: 2}                 1 + 2 * 1       the bias of z1
    input     {}                     3 + 2 * 1       the largest 2 x

so that y <= 5, which x = 1 attains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch, Value

P = TypeVar("P")


class Rules(Protocol[P]):
    """What each kind of node does to linear forms in it, whose coefficients are a P."""

    def close(self, node: Input, part: P) -> None:
        """Take the maximum of the forms over the input's set into the total."""

    def through_affine(self, node: Affine, part: P) -> Iterable[tuple[Value, P]]:
        """Yield the forms in what the node reads; take its bias into the total."""

    def through_switch(self, node: Switch, part: P) -> P:
        """Return the forms in the switched value; take offsets of lines into the total."""

    def add(self, node: Value, one: P, other: P) -> P:
        """Return the sum of two forms in the same node."""


def substitute_back(nodes: Sequence[Node], target: Node, start: P, rules: Rules[P]) -> None:
    """Push forms in a node down to the inputs.

    Parameters
    ----------
    nodes
        The nodes below the target and the target itself, operands first.
    target
        The node that the forms are in.
    start
        Their coefficients.
    rules
        What is done at each node; they keep the total.
    """
    pending: dict[Node, P] = {target: start}
    for node in reversed(nodes):
        if node not in pending:
            continue
        part = pending.pop(node)
        pushed: Iterable[tuple[Value, P]] = ()
        match node:
            case Input():
                rules.close(node, part)
            case Affine():
                pushed = rules.through_affine(node, part)
            case Switch():
                pushed = ((node.x, rules.through_switch(node, part)),)
            case Conditional():
                raise AssertionError("gates are read by switches alone")
            case _:
                assert_never(node)
        for x, form in pushed:
            pending[x] = rules.add(x, pending[x], form) if x in pending else form
