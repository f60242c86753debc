"""The product of the layers' operator norms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp

from lipexact.estimators import constants
from lipexact.estimators.norms import absolute_norm, operator_norm_upper, product_upper
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch, Value
from lipexact.numerics.arrays import Matrix, most_terms
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.spectral import spectral_norm
from lipexact.sets.norms import norm
from lipexact.sets.unit_balls import SymmetricSet

# The norms between hidden layers: the operator norm from each to itself has a closed form
# (:func:`matrix_norm`).
_HIDDEN_NORMS = ("l1", "l2", "linf")

_Terms: TypeAlias = tuple[tuple[Matrix, Value], ...]
_Weights: TypeAlias = dict[Value, Matrix]


@estimator(
    "naive",
    "upper",
    "global",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Szegedy et al., ICLR 2014",
    best_upper_rank=20,
)
def naive(request: EstimateRequest) -> EstimatorOutput:
    """Multiply the layers' operator norms, with sums over parallel branches.

    All hidden layers are in the norm of the input or of the output, where these have names, and the
    first or the last layer maps one norm to the other. The value is the minimum over such norms.
    """
    asked = {request.asked.get(side) for side in ("input_norm", "output_norm")}
    names = [name for name in _HIDDEN_NORMS if name in asked] or _HIDDEN_NORMS
    bounds = {name: _NormProducts(request, name).constant() for name in names}
    best = min(bounds, key=lambda name: bounds[name])
    return EstimatorOutput(bounds[best], {"hidden_norm": best})


class _NormProducts:
    """Lipschitz constants of a network's nodes, from the input's norm to one norm of hidden nodes.

    Parameters
    ----------
    request
        The network and its norms.
    name
        The norm of hidden nodes.
    """

    def __init__(self, request: EstimateRequest, name: str) -> None:
        self.request = request
        self.name = name
        self.norm = norm(name)
        self.constants: dict[Node, float] = {}

    def constant(self) -> float:
        """Return the constant of the output, in the output's own norm."""
        network = self.request.network
        for node in network.graph.nodes:
            if node is network.output:
                break
            match node:
                case Input() | Conditional():
                    pass
                case Switch():
                    self.constants[node] = self._of(node.x)
                case Affine():
                    self.constants[node] = self._affine(node.terms, self.norm.polar(node.size))
        output = network.output
        terms = (
            output.terms
            if isinstance(output, Affine)
            else ((sp.eye_array(output.size, format="csr"), output),)
        )
        if isinstance(output, Switch):
            self.constants[output] = self._of(output.x)
        return self._affine(terms, self.request.functionals)

    def _of(self, node: Value) -> float:
        """Return the constant of a node; for the input, the norm of the identity."""
        if node not in self.constants:
            identity = sp.eye_array(node.size, format="csr")
            self.constants[node] = self._weight_norm(identity, node, self.norm.polar(node.size))
        return self.constants[node]

    def _weight_norm(self, weight: Matrix, x: Value, functionals: SymmetricSet) -> float:
        """Return the operator norm of W alone, for the map x -> W x."""
        if x is self.request.network.input:
            return operator_norm_upper(weight, functionals, self.request.directions)
        if functionals is self.request.functionals:
            return operator_norm_upper(weight, functionals, self.norm.ball(x.size))
        return matrix_norm(weight, self.name)

    def _factor(self, x: Value) -> float:
        """Return the constant by which a norm of W is multiplied: 1 for the input."""
        return 1.0 if x is self.request.network.input else self._of(x)

    def _affine(self, terms: _Terms, functionals: SymmetricSet) -> float:
        """Return the sum over all terms, or less where a term's switch reads another term."""
        direct: _Weights = {}
        for weight, x in terms:
            direct[x] = direct[x] + weight if x in direct else weight
        bounds = [self._sum(direct, functionals)]
        inner = {
            switch: _operands_of(switch.x, direct)
            for switch in direct
            if isinstance(switch, Switch) and switch.gate.x is switch.x
        }
        parallel = {
            switch: terms for switch, terms in inner.items() if any(x in direct for _, x in terms)
        }
        if parallel:
            bounds.append(self._halves(direct, parallel, functionals))
            bounds.append(self._choices(direct, functionals))
        return min(bounds) * (1 + gamma(len(terms) + 4))

    def _sum(self, terms: Mapping[Value, Matrix], functionals: SymmetricSet) -> float:
        """Return the sum of the terms' norms times the constants of what they read."""
        total = sum(
            product_upper(self._weight_norm(weight, x, functionals), self._factor(x))
            for x, weight in terms.items()
        )
        return math.inf if math.isnan(total) else total  # an overflow

    def _halves(
        self,
        direct: Mapping[Value, Matrix],
        parallel: Mapping[Switch, _Terms],
        functionals: SymmetricSet,
    ) -> float:
        """Bound a sum by relu(z) = z / 2 + |z| / 2: the linear halves cancel between branches.

        For |x| = 2 relu(x) - x the linear halves are x - x = 0, and |x| is left: the bound is 1,
        where the sum of the terms' norms is 3.
        """
        linear = {x: sp.csr_array(weight) for x, weight in direct.items() if x not in parallel}
        sizes = {x: abs(weight) for x, weight in linear.items()}
        absolute = 0.0
        terms_read = 1
        for switch, terms in parallel.items():
            weight_norm = self._weight_norm(direct[switch] / 2, switch, functionals)
            absolute += product_upper(weight_norm, self._of(switch.x))
            half = sp.csr_array(direct[switch]) / 2
            terms_read = max(terms_read, most_terms(half))
            for weight, x in terms:
                _add(linear, x, half @ sp.csr_array(weight))
                _add(sizes, x, abs(half) @ abs(sp.csr_array(weight)))
        lost = gamma(terms_read + 2 * len(parallel) + 4) * self._sum(sizes, functionals)
        return self._sum(linear, functionals) + absolute + lost

    def _choices(self, direct: Mapping[Value, Matrix], functionals: SymmetricSet) -> float:
        """Bound a sum whose rows choose by gates of their own, as max(x, y) = x + relu(y - x).

        Every row of the Jacobian is that of one of the choices. So the largest row sum is that of
        one of them, and no entry is larger than in all of them.
        """
        choices = _enumerated_choices(direct)
        if choices is None:
            return math.inf
        # Each switch takes a product of two numbers and a sum, and there are fewer switches than
        # choices are allowed.
        off = gamma(4 * constants.MAX_ROW_CHOICES)
        hidden = functionals is not self.request.functionals
        if self.name == "linf" and hidden:
            return max(
                self._sum(terms, functionals) + off * self._sum(sizes, functionals)
                for terms, sizes in choices
            )
        bases = {x for terms, _ in choices for x in terms}
        if len(bases) != 1:
            return math.inf
        (x,) = bases
        largest = sp.csr_array((functionals.dim, x.size))
        for terms, sizes in choices:
            largest = largest.maximum(abs(terms[x]) + off * sizes[x])
        if not hidden or x is self.request.network.input:
            directions = (
                self.request.directions
                if x is self.request.network.input
                else self.norm.ball(x.size)
            )
            return product_upper(absolute_norm(largest, functionals, directions), self._factor(x))
        columns = matrix_norm(largest, "l1")
        if self.name == "l1":
            return product_upper(columns, self._of(x))
        sums = max(
            matrix_norm(terms[x], "linf") + off * matrix_norm(sizes[x], "linf")
            for terms, sizes in choices
        )
        # By Riesz and Thorin, the squared l2 norm is at most the l1 norm times the linf norm.
        between = math.sqrt(sums) * math.sqrt(columns) * (1 + gamma(6)) + TINY
        return product_upper(between, self._of(x))


def _enumerated_choices(direct: Mapping[Value, Matrix]) -> list[tuple[_Weights, _Weights]] | None:
    """Return the weights of each choice of switches on or off; None if there are too many.

    With each choice come the absolute values behind its entries, to which rounding is in
    proportion.
    """
    start = {x: sp.csr_array(weight) for x, weight in direct.items()}
    pending = [(start, {x: abs(weight) for x, weight in start.items()})]
    complete: list[tuple[_Weights, _Weights]] = []
    while pending:
        terms, sizes = pending.pop()
        switch = next((each for each in reversed(terms) if _is_choice(each, terms)), None)
        if switch is None:
            complete.append((terms, sizes))
            continue
        if len(pending) + len(complete) >= constants.MAX_ROW_CHOICES:
            return None
        weight = terms.pop(switch)
        size = sizes.pop(switch)
        on = dict(terms)
        on_sizes = dict(sizes)
        for inner, x in _operands_of(switch.x, direct):  # type: ignore[union-attr]
            _add(on, x, weight @ sp.csr_array(inner))
            _add(on_sizes, x, size @ abs(sp.csr_array(inner)))
        pending += [(terms, sizes), (on, on_sizes)]
    return complete


def _add(terms: _Weights, x: Value, part: Matrix) -> None:
    """Add a matrix to the weight of a node."""
    terms[x] = terms[x] + part if x in terms else part


def _is_choice(node: Value, terms: Mapping[Value, Matrix]) -> bool:
    """Return True if a term is a switch that reads other terms, no two of its gates in one row."""
    if not isinstance(node, Switch) or node.gate.x is not node.x:
        return False
    if not any(x in terms for _, x in _operands_of(node.x, terms)):
        return False
    return bool(np.diff(sp.csr_array(terms[node]).indptr).max(initial=0) <= 1)


def _operands_of(z: Value, direct: Mapping[Value, Matrix]) -> _Terms:
    """Return a switch's operand as terms: the affine node's own, unless z is a term itself."""
    if z not in direct and isinstance(z, Affine):
        return z.terms
    return ((sp.eye_array(z.size, format="csr"), z),)


def matrix_norm(weight: Matrix, name: str) -> float:
    """Bound the operator norm from a norm to itself, for "linf", "l1" or "l2".

    These are the largest sum of a row, the largest sum of a column, and the largest singular value.
    """
    if name == "l2":
        return spectral_norm(weight)
    sizes = abs(weight)
    largest = float(sizes.sum(axis=1 if name == "linf" else 0).max())
    return math.inf if math.isnan(largest) else largest * (1 + gamma(max(weight.shape)))
