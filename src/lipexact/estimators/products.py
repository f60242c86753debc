"""Global upper bounds by products of norms, layer by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp

from lipexact.bounds.crown_batched import slices
from lipexact.errors import ModelError, UnsupportedEstimateError
from lipexact.estimators.norms import absolute_norm, operator_norm_upper, spectral_norm
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    CHAINS,
    EUCLIDEAN,
    FOLDED,
    EstimateRequest,
    EstimatorOutput,
    estimator,
    folded,
)
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch, Value
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector, dense, most_terms
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.sign_relaxation import spectral_norms
from lipexact.sets.norms import norm
from lipexact.sets.unit_balls import SymmetricSet

_MOST_MASKS = 18  # neurons of a layer whose patterns are enumerated
_AT_ONCE = 2**22  # numbers of masked matrices
_MOST_CHOICES = 64  # of rows, as by maxima over windows
_STEPS = 10_000  # of greedy flips in a layer

_HIDDEN = (
    "l1",
    "l2",
    "linf",
)  # whose operator norms from one to the same are known (:func:`inner_norm`)

_Terms: TypeAlias = tuple[tuple[Matrix, Value], ...]


@estimator(
    "naive",
    "upper",
    "global",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Szegedy et al., ICLR 2014",
)
def naive(question: EstimateRequest) -> EstimatorOutput:
    """The product of the layers' operator norms, sums over parallel branches.

    In the norm of the input or of the output on all layers between, where these have names, and the first or the last
    one maps one to the other; the least where there are several.
    """
    asked = {question.asked.get(side) for side in ("input_norm", "output_norm")}
    names = [name for name in _HIDDEN if name in asked] or _HIDDEN
    found = {name: _Products(question, name).constant() for name in names}
    best = min(found, key=lambda name: found[name])
    return EstimatorOutput(found[best], {"hidden_norm": best})


class _Products:
    """Lipschitz constants of a network's nodes, from the norm of the input to one norm of all that is inside."""

    def __init__(self, question: EstimateRequest, name: str) -> None:
        self.question, self.name, self.norm = question, name, norm(name)
        self.found: dict[Node, float] = {}

    def constant(self) -> float:
        """Of the output, in its own norm."""
        network = self.question.network
        for node in network.graph.nodes:
            if node is network.output:
                break
            match node:
                case Input() | Conditional():
                    pass
                case Switch():
                    self.found[node] = self._of(node.x)
                case Affine():
                    self.found[node] = self._affine(node.terms, self.norm.polar(node.size))
        functionals, output = self.question.functionals, network.output
        terms = (
            output.terms
            if isinstance(output, Affine)
            else ((sp.eye_array(output.size, format="csr"), output),)
        )
        if isinstance(output, Switch):
            self.found[output] = self._of(output.x)
        return self._affine(terms, functionals)

    def _of(self, node: Value) -> float:
        """The constant of a node; of the input itself, the norm of the identity."""
        if node not in self.found:
            identity = sp.eye_array(node.size, format="csr")
            self.found[node] = self._norm(identity, node, self.norm.polar(node.size))
        return self.found[node]

    def _norm(self, weight: Matrix, x: Value, functionals: SymmetricSet) -> float:
        """That of W x, for W alone."""
        if x is self.question.network.input:
            return operator_norm_upper(weight, functionals, self.question.directions)
        if functionals is self.question.functionals:
            return operator_norm_upper(weight, functionals, self.norm.ball(x.size))
        return inner_norm(weight, self.name)

    def _factor(self, x: Value) -> float:
        return 1.0 if x is self.question.network.input else self._of(x)

    def _affine(self, terms: _Terms, functionals: SymmetricSet) -> float:
        """The sum over all terms, or less where some are what a switch among them reads."""
        direct: dict[Value, Matrix] = {}
        for weight, x in terms:
            direct[x] = direct[x] + weight if x in direct else weight
        found = [self._sum(direct, functionals)]
        inner = {h: _read(h.x, direct) for h in direct if isinstance(h, Switch) and h.gate.x is h.x}
        beside = {h: terms for h, terms in inner.items() if any(x in direct for _, x in terms)}
        if beside:
            found.append(self._halves(direct, beside, functionals))
            found.append(self._choices(direct, functionals))
        return min(found) * (1 + gamma(len(terms) + 4))

    def _sum(self, terms: Mapping[Value, Matrix], functionals: SymmetricSet) -> float:
        total = sum(
            _times(self._norm(weight, x, functionals), self._factor(x))
            for x, weight in terms.items()
        )
        return math.inf if math.isnan(total) else total  # of what overflowed

    def _halves(
        self,
        direct: Mapping[Value, Matrix],
        beside: Mapping[Switch, _Terms],
        functionals: SymmetricSet,
    ) -> float:
        """By relu(z) = z / 2 + |z| / 2, as for |x| = 2 relu(x) - x."""
        linear = {x: sp.csr_array(weight) for x, weight in direct.items() if x not in beside}
        sizes = {x: abs(weight) for x, weight in linear.items()}
        absolute, terms_read = 0.0, 1
        for h, terms in beside.items():
            absolute += _times(self._norm(direct[h] / 2, h, functionals), self._of(h.x))
            half = sp.csr_array(direct[h]) / 2
            terms_read = max(terms_read, most_terms(half))
            for weight, x in terms:
                _add(linear, x, half @ sp.csr_array(weight))
                _add(sizes, x, abs(half) @ abs(sp.csr_array(weight)))
        lost = gamma(terms_read + 2 * len(beside) + 4) * self._sum(sizes, functionals)
        return self._sum(linear, functionals) + absolute + lost

    def _choices(self, direct: Mapping[Value, Matrix], functionals: SymmetricSet) -> float:
        """Where rows choose by gates of their own, as of max(x, y) = x + relu(y - x): each is one of several.

        Every row of the Jacobian is that of some choice, so the largest row sum is that of one of them, and no entry is
        larger than in all of them.
        """
        start = {x: sp.csr_array(weight) for x, weight in direct.items()}
        # With each choice the absolute values behind its entries, which rounding is in proportion to.
        choices, done = [(start, {x: abs(weight) for x, weight in start.items()})], []
        while choices:
            terms, sizes = choices.pop()
            h = next((each for each in reversed(terms) if _chosen(each, terms)), None)
            if h is None:
                done.append((terms, sizes))
                continue
            if len(choices) + len(done) >= _MOST_CHOICES:
                return math.inf
            weight, size = terms.pop(h), sizes.pop(h)
            on, on_sizes = dict(terms), dict(sizes)
            for inner, x in _read(h.x, direct):  # type: ignore[union-attr]
                _add(on, x, weight @ sp.csr_array(inner))
                _add(on_sizes, x, size @ abs(sp.csr_array(inner)))
            choices += [(terms, sizes), (on, on_sizes)]
        off = gamma(
            4 * _MOST_CHOICES
        )  # a product of two and a sum for each switch, of which there are fewer
        hidden = functionals is not self.question.functionals
        if self.name == "linf" and hidden:
            return max(
                self._sum(terms, functionals) + off * self._sum(sizes, functionals)
                for terms, sizes in done
            )
        bases = {x for terms, _ in done for x in terms}
        if len(bases) != 1:
            return math.inf
        (x,) = bases
        largest = sp.csr_array((functionals.dim, x.size))
        for terms, sizes in done:
            largest = largest.maximum(abs(terms[x]) + off * sizes[x])
        if not hidden or x is self.question.network.input:
            directions = (
                self.question.directions
                if x is self.question.network.input
                else self.norm.ball(x.size)
            )
            return _times(absolute_norm(largest, functionals, directions), self._factor(x))
        columns = inner_norm(largest, "l1")
        if self.name == "l1":
            return _times(columns, self._of(x))
        sums = max(
            inner_norm(terms[x], "linf") + off * inner_norm(sizes[x], "linf")
            for terms, sizes in done
        )
        return _times(
            math.sqrt(sums) * math.sqrt(columns) * (1 + gamma(6)) + TINY, self._of(x)
        )  # Riesz and Thorin


def _times(a: float, b: float) -> float:
    """At least the product of two bounds, but for relative rounding: 0 only where one of them is."""
    return 0.0 if a == 0 or b == 0 else a * b + TINY


def _add(terms: dict[Value, Matrix], x: Value, part: Matrix) -> None:
    terms[x] = terms[x] + part if x in terms else part


def _chosen(h: Value, terms: Mapping[Value, Matrix]) -> bool:
    """Whether a term is a switch that decides between others, no two of its gates in one row."""
    if not isinstance(h, Switch) or h.gate.x is not h.x:
        return False
    if not any(x in terms for _, x in _read(h.x, terms)):
        return False
    return bool(np.diff(sp.csr_array(terms[h]).indptr).max(initial=0) <= 1)


def _read(z: Value, direct: Mapping[Value, Matrix]) -> _Terms:
    """What a gate reads, by nodes that may stand beside its switch."""
    if z not in direct and isinstance(z, Affine):
        return z.terms
    return ((sp.eye_array(z.size, format="csr"), z),)


def inner_norm(weight: Matrix, name: str) -> float:
    """The operator norm from one norm to the same: row sums, column sums, or the largest singular value."""
    if name == "l2":
        return spectral_norm(weight)
    sizes = abs(weight)
    largest = float(sizes.sum(axis=1 if name == "linf" else 0).max())
    return math.inf if math.isnan(largest) else largest * (1 + gamma(max(weight.shape)))


@dataclass(frozen=True, eq=False)
class Chain:
    """A network of affine layers with ReLUs between them, by its weights alone, scaled to Euclidean unit balls.

    Attributes
    ----------
    weights
        W_0 to W_(L-1), dense.
    """

    weights: tuple[Vector, ...]

    @property
    def product(self) -> float:
        """The product of the spectral norms."""
        return reduce(_times, map(spectral_norm, self.weights)) * (1 + gamma(len(self.weights)))


def chain(network: Network, what: str) -> list[Vector]:
    """The weights of a network without branches.

    Raises
    ------
    UnsupportedEstimateError
        If it is none.
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
                f"{what} takes {CHAINS}: this network has branches, or other operators than Relu and affine ones"
            )
        if isinstance(node.x, Input):
            weights.append(np.eye(node.size))
        node = node.x


def euclidean_axes(body: SymmetricSet) -> Vector | None:
    """The half-axes of an ellipsoid, as which a segment counts; None for other bodies."""
    if body.axes is not None:
        return body.axes
    return body.support_abs(np.ones((1, 1))) if body.dim == 1 else None


def ends(question: EstimateRequest, what: str, most: int = FOLDED) -> tuple[list[Vector], Vector]:
    """What the output is multiplied by, one matrix for each constant of which the largest is asked, and half-axes.

    Raises
    ------
    UnsupportedEstimateError
        If the norms are not Euclidean.
    """
    right = euclidean_axes(question.directions)
    if right is None:
        raise UnsupportedEstimateError(f"{what} takes {EUCLIDEAN}: the input norm must be l2")
    left = euclidean_axes(question.functionals)
    if left is not None:
        return [np.diag(left)], right
    told = f"{what} takes {EUCLIDEAN}, at most {most} of these"
    return [vertex[None, :] for vertex in folded(question.functionals, most, told)], right


def chains(question: EstimateRequest, what: str, most: int = FOLDED) -> list[Chain]:
    """The chains whose largest constant is asked."""
    lefts, right = ends(question, what, most)
    weights = chain(question.network, what)
    made = []
    for left in lefts:
        scaled = [*weights]
        scaled[0] = scaled[0] * right
        scaled[-1] = left @ scaled[-1]
        made.append(Chain(tuple(scaled)))
        if not (
            all(np.isfinite(weight).all() for weight in scaled) and math.isfinite(made[-1].product)
        ):
            raise ModelError("the network's numbers overflow; scale its weights or inputs")
    return made


@estimator(
    "seqlip",
    "heuristic",
    "global",
    norms=EUCLIDEAN,
    networks=CHAINS,
    source="Scaman and Virmaux, NeurIPS 2018, Greedy SeqLip",
)
def seqlip(question: EstimateRequest) -> EstimatorOutput:
    """Factors of two halves of layers and the gates between, each maximised over the gates by greedy flips."""
    value, details = 0.0, {}
    for one in chains(question, "seqlip"):
        factors = [_greedy(*pair, question) for pair in _factors(one)]
        found = math.prod(factors) if factors else one.product
        if found >= value:
            value, details = found, {"factors": factors}
    return EstimatorOutput(value, details, proof="none")


@estimator(
    "seqlip-brute-force",
    "upper",
    "global",
    norms=EUCLIDEAN,
    networks=f"{CHAINS}, of at most {_MOST_MASKS} neurons each",
    source="Scaman and Virmaux, NeurIPS 2018, SeqLip",
)
def seqlip_brute_force(question: EstimateRequest) -> EstimatorOutput:
    """The same factors maximised over all gates, which are the vertices of a cube: an upper bound."""
    value, details = 0.0, {}
    for one in chains(question, "seqlip-brute-force"):
        widest = max((weight.shape[0] for weight in one.weights[:-1]), default=0)
        if widest > _MOST_MASKS:
            raise UnsupportedEstimateError(
                f"seqlip-brute-force tries all patterns of a layer, of at most {_MOST_MASKS} neurons, not {widest}: "
                "seqlip flips them greedily, without a guarantee"
            )
        factors = [_enumerated(*pair, question) for pair in _factors(one)]
        # What the halves of layers lose by rounding, times all other layers.
        room = (
            one.product * sum(_halving_error(weight) for weight in one.weights) if factors else 0.0
        )
        found = (reduce(_times, factors) if factors else one.product) * (
            1 + gamma(len(factors))
        ) + room
        if not found < value:  # NaN included
            value, details = found, {"factors": factors}
    return EstimatorOutput(value, details)


def _factors(one: Chain) -> list[tuple[Vector, Vector]]:
    """For each layer of gates what multiplies them from the left and from the right, by the halves of singular values.

    W_k = U S V^T; the first and the last layer give all of S to their one factor, the others half of its logarithm to
    each.
    """
    last = len(one.weights) - 1
    if last == 0:
        return []
    halves = []
    for k, weight in enumerate(one.weights):
        left, sizes, right = _singular(weight)
        # U is orthogonal: it drops out of the last layer's norm, and V^T out of the first one's.
        up = left * (sizes if k == 0 else np.sqrt(sizes))
        down = (sizes if k == last else np.sqrt(sizes))[:, None] * right
        halves.append((up, down))
    return [(halves[k + 1][1], halves[k][0]) for k in range(last)]


def _singular(weight: Vector) -> tuple[Vector, Vector, Vector]:
    left, sizes, right = np.linalg.svd(weight, full_matrices=False)
    kept = (
        sizes > sizes[0] * 1e-14
        if sizes.size and sizes[0] > 0
        else np.zeros(sizes.size, dtype=bool)
    )
    kept[:1] = True
    return left[:, kept], sizes[kept], right[kept]


def _halving_error(weight: Vector) -> float:
    """How far U S V^T, with U and V not quite orthogonal, is off, relative to the norm of the weight."""
    left, sizes, right = _singular(weight)
    norm = spectral_norm(weight)
    if norm == 0:
        return 0.0
    rounding = 4 * gamma(sum(weight.shape)) * float((np.abs(left) * sizes @ np.abs(right)).sum())
    off = np.linalg.norm(weight - left * sizes @ right) + rounding
    # The orthogonal factors that were dropped may be a little longer than 1.
    skew = max(
        np.linalg.norm(left.T @ left - np.eye(sizes.size)),
        np.linalg.norm(right @ right.T - np.eye(sizes.size)),
    ) + gamma(sum(weight.shape)) * sum(weight.shape)
    return float(off / norm + 2 * skew) * (1 + 1e-6)


def _greedy(left: Vector, right: Vector, question: EstimateRequest) -> float:
    """|A diag(s) B|_2 for the s that single flips do not improve, or that the time allows, from all gates open."""
    mask = np.ones(left.shape[1])
    current = left @ right
    best = float(np.linalg.norm(current, 2))
    for _ in range(_STEPS):
        if question.over:
            break
        signs = 1 - 2 * mask
        found = np.concatenate(
            [
                np.linalg.norm(
                    current
                    + signs[part, None, None] * left.T[part, :, None] * right[part, None, :],
                    2,
                    (1, 2),
                )
                for part in slices(mask.size, max(_AT_ONCE // current.size, 1))
            ]
        )
        k = int(found.argmax())
        if found[k] <= best * (1 + 1e-12):
            break
        best = float(found[k])
        current = current + signs[k] * np.outer(left[:, k], right[k])
        mask[k] = 1 - mask[k]
    return best


def _enumerated(left: Vector, right: Vector, question: EstimateRequest) -> float:
    """At least |A diag(s) B|_2 for all s in [0, 1]^n: the norm is convex, so some vertex attains it."""
    best, neurons = 0.0, left.shape[1]
    masks = itertools.product((0.0, 1.0), repeat=neurons)
    lost = gamma(neurons) * spectral_norm(np.abs(left)) * spectral_norm(np.abs(right))
    step = max(_AT_ONCE // (left.shape[0] * neurons + left.shape[0] * right.shape[1]), 1)
    while chunk := list(itertools.islice(masks, step)):
        if question.over:  # what was not tried is at most the product of both halves' norms
            return spectral_norm(left) * spectral_norm(right) * (1 + gamma(2))
        best = max(best, float(spectral_norms((left * np.array(chunk)[:, None, :]) @ right).max()))
    return best + lost
