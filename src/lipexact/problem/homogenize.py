"""Homogenization: global constants as local ones.

All of R^d is the part of a box where a further coordinate is positive.

For y = (z, t) with t > 0 stands the point x = r z / t, with a scale r for each coordinate. With its
biases times t, a network becomes F(z, t) = t f(r z / t), a network without biases. Its gates at (z,
t) are those of f at x, and its derivative by z is that of f times r. Every region of f becomes a
cone without its apex, and all of them meet the box -1 <= z <= 1, 0 <= t <= 1 in regions with
interior: what holds there holds for f on R^d.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector
from lipexact.sets.domains import Box
from lipexact.sets.unit_balls import Leading, Stretched, SymmetricSet

MAX_EXPONENT = 64  # of the scales, which are powers of two


@dataclass(frozen=True, eq=False)
class Homogenization:
    """F on its box.

    Attributes
    ----------
    original
        f.
    """

    original: Network

    @cached_property
    def scale(self) -> Vector:
        """r: powers of two, shape (d,)."""
        return _scale(self.original)

    @cached_property
    def network(self) -> Network:
        """F, of d + 1 inputs; gates in the order of those of f."""
        x = self.original.input
        shape = self.original.output_shape
        name = self.original.name
        both = Input(x.size + 1, "zt")
        become: dict[Node, Value] = {}
        gates: dict[Node, Conditional] = {}

        def value(read: Value) -> Value:
            if read is x and x not in become:
                identity = sp.eye_array(x.size, format="csr")
                become[x] = Affine(((_lifted(identity, self.scale), both),), np.zeros(x.size), "x")
            return become[read]

        for node in self.original.graph.nodes:
            if isinstance(node, Affine):
                terms: list[tuple[Matrix, Value]] = []
                for weight, read in node.terms:
                    terms.append(
                        (_lifted(weight, self.scale), both) if read is x else (weight, become[read])
                    )
                if node.bias.any():
                    column = sp.csr_array(node.bias[:, None])
                    terms.append(
                        (sp.hstack([sp.csr_array((node.size, x.size)), column], format="csr"), both)
                    )
                become[node] = Affine(tuple(terms), np.zeros(node.size), node.name)
            elif isinstance(node, Conditional):
                gates[node] = Conditional(value(node.x), node.name)
            elif isinstance(node, Switch):
                become[node] = Switch(value(node.x), gates[node.gate], node.name)
        return Network(Graph((both,), (value(self.original.output),)), (both.size,), shape, name)

    @property
    def domain(self) -> Box:
        """What (z, t) ranges over."""
        return Box(np.append(-np.ones(self.scale.size), 0.0), np.ones(self.scale.size + 1))

    def directions(self, directions: SymmetricSet) -> SymmetricSet:
        """Return the directions for (z, t) that stand for those of a set for x."""
        scaled = directions
        if not (self.scale == 1).all():
            scaled = Stretched(directions, 1 / self.scale)
        return Leading(scaled, self.scale.size + 1)

    def direction(self, direction: Vector) -> Vector:
        """Return the direction for x of one for (z, t)."""
        return np.asarray(self.scale * direction[:-1])

    def point(self, point: Vector) -> Vector:
        """Return the x of (z, t) as Fractions; z and t may be Fractions, too."""
        *z, t = (Fraction(entry) for entry in point.tolist())
        return np.array(
            [Fraction(r) * each / t for r, each in zip(self.scale.tolist(), z, strict=True)],
            dtype=object,
        )


def _lifted(weight: Matrix, scale: Vector) -> Matrix:
    """Return the weight for (z, t) of a weight for x."""
    if sp.issparse(weight):
        return sp.hstack(
            [weight * scale[None, :], sp.csr_array((weight.shape[0], 1))], format="csr"
        )
    return np.hstack([weight * scale, np.zeros((weight.shape[0], 1))])


def _scale(network: Network) -> Vector:
    """Return powers of two about as large as points on kinks.

    So no coordinate of (z, t) counts for much less than the others.
    """
    columns = np.zeros(network.input.size)
    biases = 0.0
    first: list[Matrix] = []
    for node in network.graph.nodes:
        if isinstance(node, Affine):
            for weight, x in node.terms:
                if x is network.input:
                    entries = sp.coo_array(weight)
                    np.maximum.at(columns, entries.col, np.abs(entries.data))
                    first.append(entries)
                    biases = max(biases, float(np.abs(node.bias).max()))
    ratio = np.where(
        columns > 0, (biases or columns.max()) / np.where(columns > 0, columns, 1.0), 1.0
    )
    scale = np.ldexp(1.0, np.clip(np.frexp(ratio)[1] - 1, -MAX_EXPONENT, MAX_EXPONENT))
    exact = all(
        (each.data * scale[each.col] / scale[each.col] == each.data).all() for each in first
    )
    return np.asarray(scale) if exact else np.ones(scale.size)
