"""Networks of affine layers with ReLUs between them, scaled to Euclidean unit balls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from lipexact.errors import ModelError, UnsupportedEstimateError
from lipexact.estimators.constants import MAX_FOLDED_FUNCTIONALS
from lipexact.estimators.norms import product_upper
from lipexact.estimators.registry import CHAINS, EUCLIDEAN, EstimateRequest, vertex_rows
from lipexact.graph.ir import Affine, Input, Switch
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, dense, summary
from lipexact.numerics.rounding import gamma
from lipexact.numerics.spectral import spectral_norm
from lipexact.sets.unit_balls import SymmetricSet


@dataclass(frozen=True, eq=False)
class Chain:
    """The weights of a network of affine layers with ReLUs between them.

    They are scaled so that the norms of the input and of the output are Euclidean.

    Attributes
    ----------
    weights
        The dense matrices W_0 to W_(L-1), from the input to the output; a ReLU at either end has
        the identity beyond it.
    """

    weights: tuple[Vector, ...]

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(summary, self.weights))})"

    @property
    def product(self) -> float:
        """The product of the spectral norms, rounded up."""
        norms = map(spectral_norm, self.weights)
        return reduce(product_upper, norms) * (1 + gamma(len(self.weights)))


def chain_weights(network: Network, method: str) -> list[Vector]:
    """Return the weights of a network without branches, the first layer's first.

    Where two ReLUs follow each other, or one is the first or the last operator, the identity stands
    between, before or after them.

    Raises
    ------
    UnsupportedEstimateError
        If the network has branches or other operators; `method` is named in the message.
    """
    weights: list[Vector] = []
    node = network.output
    while True:
        if isinstance(node, Affine) and len(node.terms) == 1:
            ((weight, x),) = node.terms
            weights.append(dense(weight))
            node = x
        elif isinstance(node, Switch):
            weights.append(np.eye(node.size))
        if isinstance(node, Input):
            return weights[::-1] or [np.eye(node.size)]
        if not (
            isinstance(node, Switch)
            and node.gate.x is node.x
            and isinstance(node.x, Affine | Input)
        ):
            raise UnsupportedEstimateError(
                f"{method} takes {CHAINS}: this network has branches, or other operators than Relu "
                "and affine ones"
            )
        if isinstance(node.x, Input):
            weights.append(np.eye(node.size))
        node = node.x


def euclidean_axes(symmetric_set: SymmetricSet) -> Vector | None:
    """Return the half-axes of an ellipsoid, or of a segment; None for other sets."""
    if symmetric_set.axes is not None:
        return symmetric_set.axes
    return symmetric_set.support_abs(np.ones((1, 1))) if symmetric_set.dim == 1 else None


def euclidean_factors(
    request: EstimateRequest, method: str, max_functionals: int = MAX_FOLDED_FUNCTIONALS
) -> tuple[list[Vector], Vector]:
    """Return what multiplies the output and the input to make both of their norms Euclidean.

    The constant asked for is the maximum of |left J diag(right)|_2 over all matrices `left`: one
    for an ellipsoid of functionals, else one for each vertex.

    Returns
    -------
    lefts, right
        Matrices of shape (k, m), and half-axes of shape (d,).

    Raises
    ------
    UnsupportedEstimateError
        If the norms are not Euclidean.
    """
    right = euclidean_axes(request.directions)
    if right is None:
        raise UnsupportedEstimateError(f"{method} takes {EUCLIDEAN}: the input norm must be l2")
    left = euclidean_axes(request.functionals)
    if left is not None:
        return [np.diag(left)], right
    reason = f"{method} takes {EUCLIDEAN}, at most {max_functionals} of these"
    vertices = vertex_rows(request.functionals, max_functionals, reason)
    return [vertex[None, :] for vertex in vertices], right


def scaled_chains(
    request: EstimateRequest, method: str, max_functionals: int = MAX_FOLDED_FUNCTIONALS
) -> list[Chain]:
    """Return one chain for each functional, or one in all for an ellipsoid of them.

    The constant asked for is the largest of their Euclidean constants.

    Raises
    ------
    UnsupportedEstimateError
        If the network is no chain, or the norms are not Euclidean.
    ModelError
        If its numbers overflow.
    """
    lefts, right = euclidean_factors(request, method, max_functionals)
    weights = chain_weights(request.network, method)
    scaled_ones = []
    for left in lefts:
        scaled = [*weights]
        scaled[0] = scaled[0] * right
        scaled[-1] = left @ scaled[-1]
        chain = Chain(tuple(scaled))
        scaled_ones.append(chain)
        if not (
            all(np.isfinite(weight).all() for weight in scaled) and math.isfinite(chain.product)
        ):
            raise ModelError("the network's numbers overflow; scale its weights or inputs")
    return scaled_ones
