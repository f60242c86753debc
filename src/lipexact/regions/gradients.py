"""Gradients of functionals under a pattern, with bounds of their rounding errors.

The gradient of c^T f under a pattern is c^T J, for the Jacobian J of the linear region. It comes
from a pass backwards through the network, in one of three precisions: floats, pairs of floats with
twice the precision, or Fractions. Each row gets the lowest precision that suffices.

For c = (1, -1) and the outputs 1e16 x and (1e16 + 2) x, the gradient is -2. The error bound for
floats is in proportion to the sum of the absolute values: 2e16 * 2^-53, about 2 for each operation,
which is as large as the result. With twice the precision it is about 1e-15.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lipexact.graph.ir import Affine, Node, Switch
from lipexact.graph.pattern import ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector, entries, most_terms
from lipexact.numerics.double_double import twofold_product, twofold_sum
from lipexact.numerics.rational import Numbers, to_fractions
from lipexact.numerics.rounding import SMALLEST, TINY, gamma, rounded, smallest
from lipexact.regions import constants
from lipexact.regions.affine import exact_product


def gradients(
    network: Network, functionals: Vector, pattern: Pattern, *, exact: bool = False
) -> tuple[Vector, Vector]:
    """Return c^T J under a pattern for each row c, and bounds of the errors.

    Floats are used where they do not cancel much, else pairs of floats, else Fractions, unless that
    would take too many operations (`constants.MAX_GRADIENT_FRACTIONS`).

    Parameters
    ----------
    network
        f: R^d -> R^m.
    functionals
        The rows c, shape (k, m).
    pattern
        The gates' states; free gates count as off.
    exact
        Whether every entry must be the float next to its true value, if the limit on Fractions
        allows it. By default errors are small in proportion to the largest entry of all rows.

    Returns
    -------
    values, errors
        Shape (k, d) each. The true gradients are within `errors` of `values`.
    """
    backward = _BackwardPass(network, pattern)
    values = np.array(backward.run(functionals, operator.matmul), dtype=np.float64)
    errors = backward.float_errors(functionals)

    def inaccurate() -> npt.NDArray[np.bool_]:
        if exact:
            allowed = gamma(1) * np.abs(values)
        else:
            allowed = constants.GRADIENT_TOLERANCE * np.abs(values).max(initial=0.0)
        return np.asarray(~(errors <= allowed).all(axis=1))

    if (rows := inaccurate()).any():
        values[rows], errors[rows] = backward.run_twofold(functionals[rows])
    rows = inaccurate()
    if rows.any() and backward.fractions_for(rows) <= constants.MAX_GRADIENT_FRACTIONS:
        exactly = backward.run(to_fractions(functionals[rows]), exact_product)
        values[rows] = np.vectorize(rounded, otypes=[np.float64])(exactly)
        errors[rows] = np.where(exactly == 0, 0.0, gamma(1) * np.abs(values[rows]) + TINY)
    return values, errors


class _BackwardPass:
    """The derivative's graph, J^T c as a function of c, evaluated under a pattern.

    Functionals are the rows of an array of shape (k, m) outside, and columns inside.
    """

    def __init__(self, network: Network, pattern: Pattern) -> None:
        self.cotangent, self.graph = network.pullback
        self.gradient = self.graph.outputs[0]
        self.states = dict(zip(network.gates, pattern, strict=True))
        affine = (node for node in self.graph.nodes if isinstance(node, Affine))
        self.weights = [weight for node in affine for weight, _ in node.terms]

    def fractions_for(self, rows: npt.NDArray[np.bool_]) -> int:
        """Count the multiplications of Fractions for the functionals that a mask selects."""
        return sum(map(entries, self.weights)) * int(rows.sum())

    def run(self, functionals: Numbers, times: Callable[[Matrix, Numbers], Numbers]) -> Numbers:
        """Return the gradients, shape (k, d), with `times` for products of weights and columns."""
        values: dict[Node, Numbers] = {self.cotangent: functionals.T}
        for node in self.graph.nodes:
            if isinstance(node, Affine) and all(x in values for _, x in node.terms):
                total = np.zeros((node.size, len(functionals)), dtype=int)
                for weight, x in node.terms:
                    total = total + times(weight, values[x])
                values[node] = total
            elif isinstance(node, Switch) and node.x in values:
                values[node] = values[node.x] * (self.states[node.gate] == ON).astype(int)[:, None]
        return values[self.gradient].T

    def float_errors(self, functionals: Vector) -> Vector:
        """Bound the rounding errors of :meth:`run` in floats, shape (k, d).

        They are at most gamma_n times the gradients for the absolute values of all weights and
        functionals, where n is the number of operations on the longest path.
        """
        least = smallest(functionals) * math.prod(map(smallest, self.weights))
        # What underflow can lose is less than rounding errors unless products get this small.
        tiny = SMALLEST if least < SMALLEST else 0.0
        sizes = self.run(np.abs(functionals), lambda weight, x: abs(weight) @ x + tiny)
        errors = np.array(sizes, dtype=np.float64)
        errors *= gamma(sum(most_terms(weight) + 1 for weight in self.weights))
        return errors

    def run_twofold(self, functionals: Vector) -> tuple[Vector, Vector]:
        """Return the gradients and bounds of their errors, computed in pairs of floats."""
        zeros = np.zeros(functionals.T.shape)
        values: dict[Node, tuple[Vector, Vector, Vector]] = {
            self.cotangent: (functionals.T, zeros, zeros)
        }
        for node in self.graph.nodes:
            if isinstance(node, Affine) and all(x in values for _, x in node.terms):
                high, low, error = (np.zeros((node.size, len(functionals))) for _ in range(3))
                for weight, x in node.terms:
                    above, below, before = values[x]
                    above, below, lost = twofold_product(weight, above, below)
                    high, low, added = twofold_sum((high, low), (above, below))
                    error = (error + lost + added + abs(weight) @ before) * (1 + gamma(x.size + 3))
                values[node] = high, low, error
            elif isinstance(node, Switch) and node.x in values:
                on = (self.states[node.gate] == ON).astype(np.float64)[:, None]
                high, low, error = values[node.x]
                values[node] = high * on, low * on, error * on
        high, low, error = values[self.gradient]
        return high.T, (error + np.abs(low)).T
