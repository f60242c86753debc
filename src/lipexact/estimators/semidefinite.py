"""LipSDP and ECLipsE: multipliers for the slopes of ReLUs, each set of them proven to give a bound.

With w = (x, h), h the outputs of the gates that are open, every pre-activation is A w and the output C w, up to
constants. For differences of two points, h_i (A w - h)_i >= 0: a ReLU's slope is in [0, 1]. So for every T >= 0,
diagonal, |C w|^2 <= rho |x|^2 follows from

    M = [[rho I - Cx^T Cx,  -Ax^T T - Cx^T Ch], [., 2 T - T Ah - Ah^T T - Ch^T Ch]]  positive semidefinite

(Fazlyab et al., NeurIPS 2019; Theorem 2 with alpha = 0, beta = 1; Pauli et al., 2022, for the diagonal T). Whatever a
solver says, rho is then found, and Cholesky's method on M proves it, with room for rounding.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from typing_extensions import assert_never

from lipexact.errors import SolverUnavailableError, UnsupportedEstimateError
from lipexact.estimators.norms import spectral_norm
from lipexact.estimators.products import Chain, chains, ends, naive
from lipexact.estimators.registry import (
    CHAINS,
    EUCLIDEAN,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, dense, most_terms
from lipexact.numerics.rounding import TINY, gamma

_MOST_SECONDS = 1200.0  # that a semidefinite program may take by `_seconds`
_MOST_PROVEN = 6000  # size of M
_MOST_FUNCTIONALS = 16  # each is a program of its own
_ROOMS = (
    0.0,
    1e-12,
    1e-10,
    1e-9,
    1e-8,
    1e-7,
    1e-6,
    1e-5,
    1e-4,
    1e-3,
    1e-2,
    0.1,
)  # by which multipliers are raised
_OWN_GATES = "those whose gates switch what they read"


@dataclass(frozen=True, eq=False)
class Loop:
    """Gates' inputs A w and the output C w of w = (x, h), by their linear parts.

    Attributes
    ----------
    a, c
        Shapes (n, d + n) and (m, d + n).
    inputs
        d.
    layers
        For each gate the number of its layer, shape (n,).
    sizes
        For a and c, sums of the absolute values of the products behind their entries.
    operations
        How many roundings an entry has seen at most.
    """

    a: Vector
    c: Vector
    inputs: int
    layers: Vector
    sizes: tuple[Vector, Vector]
    operations: int

    @property
    def gates(self) -> int:
        """The number n of open gates."""
        return len(self.a)

    def scaled(self, left: Vector, right: Vector) -> Loop:
        """With the output multiplied by a matrix, and the input by half-axes."""
        columns = np.concatenate([right, np.ones(self.gates)])
        c, c_sizes = left @ self.c * columns, np.abs(left) @ self.sizes[1] * columns
        operations = self.operations + left.shape[1] + 2
        return Loop(
            self.a * columns,
            c,
            self.inputs,
            self.layers,
            (self.sizes[0] * columns, c_sizes),
            operations,
        )


def loop(network: Network, states: list[Vector], most: int, what: str) -> Loop:
    """The network with those gates as variables that are open.

    Parameters
    ----------
    network
        f.
    states
        For each layer of gates 1.0 (on), 0.0 (off), or NaN (open), shape (size,).
    most
        How large M may be.
    what
        Who asks.

    Raises
    ------
    UnsupportedEstimateError
        If the network has gates that switch something else than what they read, or is too large.
    """
    open_gates = [np.isnan(state) for state in states]
    count, d = int(sum(each.sum() for each in open_gates)), network.input.size
    if count + d > most:
        raise UnsupportedEstimateError(
            f"{what} takes inputs and open gates up to {most} together, not {d} and {count}: a smaller domain settles "
            "more gates"
        )
    number = {gate: k for k, gate in enumerate(network.gates)}
    starts = d + np.cumsum([0, *(int(each.sum()) for each in open_gates)])
    forms: dict[Node, tuple[Vector, Vector]] = {}
    read: dict[int, Node] = {}
    operations = 4
    for node in network.graph.nodes:
        match node:
            case Input():
                forms[node] = (np.eye(d, d + count), np.eye(d, d + count))
            case Affine():
                total, sizes = np.zeros((node.size, d + count)), np.zeros((node.size, d + count))
                for weight, x in node.terms:
                    total = total + dense(weight @ forms[x][0])
                    sizes = sizes + dense(abs(weight) @ forms[x][1])
                    operations += most_terms(weight) + 1
                forms[node] = (total, sizes)
            case Switch():
                if node.gate.x is not node.x:
                    raise UnsupportedEstimateError(
                        f"{what} takes networks whose gates switch what they read: this one is another"
                    )
                k = number[node.gate]
                read[k] = node.x
                values = np.where(open_gates[k], 0.0, states[k])[:, None]
                total, sizes = forms[node.x][0] * values, forms[node.x][1] * values
                mine = np.flatnonzero(open_gates[k])
                columns = starts[k] + np.arange(mine.size)
                total[mine, columns] = sizes[mine, columns] = 1.0
                forms[node] = (total, sizes)
            case Conditional():
                pass
            case _:
                assert_never(node)
    rows = [
        tuple(part[open_gates[k]] for part in forms[read[k]])
        for k in range(len(states))
        if k in read
    ]
    empty = np.zeros((0, d + count))
    a, a_sizes = (
        np.vstack([empty, *parts]) for parts in (zip(*rows, strict=True) if rows else ([], []))
    )
    layers = np.concatenate(
        [
            np.zeros(0),
            *(np.full(int(open_gates[k].sum()), k) for k in range(len(states)) if k in read),
        ]
    )
    c, c_sizes = forms[network.output]
    return Loop(a, c, d, layers, (a_sizes, c_sizes), operations)


def _matrix(
    of: Loop, multipliers: Vector, a: Vector, c: Vector, *, absolute: bool = False
) -> Vector:
    """M without rho; with `absolute` at least the sum of the absolute values behind each entry."""
    d, n, sign = of.inputs, of.gates, 1.0 if absolute else -1.0
    matrix = sign * (c.T @ c)
    pulled = multipliers[:, None] * a
    matrix[d:] += sign * pulled
    matrix[:, d:] += sign * pulled.T
    matrix[d + np.arange(n), d + np.arange(n)] += 2 * multipliers
    return matrix


def proven(of: Loop, multipliers: Vector) -> float:
    """A bound of the Euclidean constant by some multipliers, proven; infinite where they give none.

    Parameters
    ----------
    of
        The network.
    multipliers
        The diagonal of T, at least 0, shape (n,).
    """
    if not of.gates or not of.sizes[1].any():
        return spectral_norm(of.c) + gamma(of.operations) * spectral_norm(of.sizes[1])
    if not np.isfinite(multipliers).all():
        return math.inf
    multipliers = np.maximum(multipliers, 0.0)
    units = _typical(of.a, of.inputs) ** 2
    largest = float((multipliers * units).max())
    for room in _ROOMS:
        raised = multipliers * (1 + room) + room * largest / units
        rho = _least(of, raised)
        found = math.inf if rho is None else _checked(of, raised, rho)
        if math.isfinite(found):
            return found
    return math.inf


def _least(of: Loop, multipliers: Vector) -> float | None:
    """About the least rho for some multipliers, by Schur's complement; None where there is none."""
    d = of.inputs
    matrix = _matrix(of, multipliers, of.a, of.c)
    inner = matrix[d:, d:]
    size = np.sqrt(np.maximum(np.diag(inner), 0.0))
    if not (size > 0).all():
        return None
    try:
        factor = np.linalg.cholesky(inner / np.outer(size, size))
    except np.linalg.LinAlgError:
        return None
    half = scipy.linalg.solve_triangular(factor, matrix[d:, :d] / size[:, None], lower=True)
    return float(np.square(np.linalg.norm(np.vstack([of.c[:, :d], half]), 2)))


def _checked(of: Loop, multipliers: Vector, rho: float) -> float:
    """The root of the least rho' >= rho, up to a few digits, with which M is proven positive semidefinite."""
    d = of.inputs
    matrix = _matrix(of, multipliers, of.a, of.c)
    off = (
        gamma(2 * of.operations + sum(of.c.shape) + 8)
        * _matrix(of, multipliers, *of.sizes, absolute=True)
        + TINY
    )
    for room in (1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3):
        top = rho * (1 + room) + TINY
        full, lost = (
            matrix.copy(),
            off + gamma(2) * np.diag(np.r_[np.full(d, top), np.zeros(of.gates)]),
        )
        full[np.arange(d), np.arange(d)] += top
        if positive_definite(full, lost):
            return math.sqrt(top) * (1 + gamma(4))
    return math.inf


def positive_definite(matrix: Vector, off: Vector) -> bool:
    """Whether a symmetric matrix is proven to be so, though its entries are off by as much as `off` says.

    Scaled to a diagonal of ones, by powers of two, so that this is exact: if Cholesky's method runs to its end on
    S M S - c I with c at least what rounding, and `off`, can do, M is positive definite (Rump, BIT 46, 2006).
    """
    diagonal = np.diag(matrix)
    if not (diagonal > 0).all() or not np.isfinite(matrix).all():
        return False
    scale = np.ldexp(1.0, -(np.frexp(diagonal)[1] // 2))
    scaled = matrix * scale[:, None] * scale
    n = len(matrix)
    errors = float((off * scale[:, None] * scale).sum(axis=1).max()) * (1 + gamma(n))
    slack = (errors + gamma(n + 4) * float(np.trace(scaled))) * (1 + gamma(n + 4)) + TINY * n
    if not np.isfinite(slack):
        return False
    scaled[np.arange(n), np.arange(n)] -= slack
    try:
        np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return False
    return True


def _loops(question: EstimateRequest, what: str) -> list[Loop]:
    """For each constant of which the largest is asked the network, its gates settled by the bounds on the domain."""
    lefts, right = ends(question, what, _MOST_FUNCTIONALS)
    states = _open(question.network) if question.everywhere else question.states
    whole = loop(question.network, states, _MOST_PROVEN, what)
    loops = [whole.scaled(left, right) for left in lefts]
    needed, limit = sum(_seconds(_blocks(of)) for of in loops), _patience(question)
    if needed > limit:
        raise UnsupportedEstimateError(
            f"{what} would take about {needed:.2g} s for {whole.gates} open gates, too long for a limit of {limit:.2g} "
            "s; a smaller domain settles more gates, and eclipse-fast takes larger networks"
        )
    return loops


def _open(network: Network) -> list[Vector]:
    """States of gates of which nothing is known."""
    return [np.full(gate.size, np.nan) for gate in network.gates]


def _patience(question: EstimateRequest) -> float:
    """How long a program may take by `_seconds`, which is rough."""
    return (
        _MOST_SECONDS
        if question.seconds_left is None
        else min(_MOST_SECONDS, 2 * question.seconds_left)
    )


def _blocks(of: Loop) -> list[int]:
    """The sizes of M's blocks after chordal decomposition: pairs of layers, where each reads the one before alone."""
    d = min(of.inputs, of.gates + len(of.c))
    kinds, where = np.unique(of.layers, return_inverse=True)
    sizes = [d, *np.bincount(where, minlength=len(kinds)).tolist()]
    for k in range(1, len(kinds)):
        rows = of.a[where == k]
        if rows[:, : of.inputs].any() or rows[:, of.inputs :][:, where != k - 1].any():
            return [d + of.gates]
    if len(kinds) and of.c[:, of.inputs :][:, where != len(kinds) - 1].any():
        return [d + of.gates]
    return [a + b for a, b in itertools.pairwise(sizes)]


def _seconds(blocks: Iterable[int]) -> float:
    """About how long Clarabel takes for semidefinite blocks of these sizes.

    20 iterations, each of which factorises a matrix with size^2 / 2 rows: measured 3 s for a block of 85, and 33 s for
    one of 125. It looks at the clock between iterations only.
    """
    return sum(20 * 3.0 * (size / 85) ** 6 for size in blocks)


@estimator(
    "lipsdp",
    "upper",
    "local",
    norms=EUCLIDEAN,
    networks=f"{_OWN_GATES}, about a hundred of them open",
    source="Fazlyab et al., NeurIPS 2019, LipSDP-Neuron",
)
def lipsdp(question: EstimateRequest) -> EstimatorOutput:
    """A semidefinite program with a multiplier for each open gate; the gates' bounds settle the others."""
    return _lipsdp(question, "lipsdp", lambda of: np.eye(of.gates))


@estimator(
    "lipsdp-layer",
    "upper",
    "local",
    norms=EUCLIDEAN,
    networks=f"{_OWN_GATES}, about a hundred of them open",
    source="Fazlyab et al., NeurIPS 2019, LipSDP-Layer",
)
def lipsdp_layer(question: EstimateRequest) -> EstimatorOutput:
    """The same with one multiplier for each layer."""
    return _lipsdp(
        question,
        "lipsdp-layer",
        lambda of: (of.layers[:, None] == np.unique(of.layers)[None, :]).astype(np.float64),
    )


def _lipsdp(
    question: EstimateRequest, what: str, shares: Callable[[Loop], Vector]
) -> EstimatorOutput:
    found, statuses = [], []
    for of in _loops(question, what):
        multipliers, status = (
            _solved(of, shares(of), question) if of.gates else (np.zeros(0), "no gate is open")
        )
        found.append(proven(of, multipliers))
        statuses.append(status)
    return _answer(question, found, solver_status=sorted(set(statuses)))


def _answer(question: EstimateRequest, found: list[float], **details: Any) -> EstimatorOutput:
    """The largest bound; what multipliers must give at least, where a solver or rounding has left none that do."""
    if all(map(math.isfinite, found)):
        return EstimatorOutput(max(found), details)
    details["message"] = (
        "the multipliers prove no bound: the product of the layers' norms, which the best ones imply"
    )
    return EstimatorOutput(naive(question).value, details)


def _solved(of: Loop, shares: Vector, question: EstimateRequest) -> tuple[Vector, str]:
    """Multipliers by Clarabel, each a combination of the columns of `shares`.

    The input enters by the span of the rows that read it, and the output in units of the constant's own size.
    """
    cp = _cvxpy()
    d, n = of.inputs, of.gates
    reading = np.vstack([of.a[:, :d], of.c[:, :d]])
    narrow = np.asarray(np.linalg.qr(reading.T, mode="r")).T if len(reading) < d else reading
    r = narrow.shape[1]
    a = np.hstack([narrow[:n], of.a[:, d:]])
    c = np.hstack([narrow[n:], of.c[:, d:]])
    # Every gate in units of about its own size, and the constant likewise.
    sizes = _typical(a, r)
    a, c = a / sizes[:, None], c.copy()
    a[:, r:], c[:, r:] = a[:, r:] * sizes, c[:, r:] * sizes
    unit = float(np.linalg.norm(c, 2)) or 1.0
    c = c / unit
    shares = shares * sizes[:, None] ** 2
    shares = shares / shares.max(axis=0)
    rho, free = cp.Variable(nonneg=True), cp.Variable(shares.shape[1], nonneg=True)
    diagonal = cp.diag(shares @ free)
    low = np.vstack([np.zeros((r, n)), np.eye(n)])
    pulled = low @ diagonal @ a
    corner = np.diag(np.r_[np.ones(r), np.zeros(n)])
    matrix = rho * corner - c.T @ c - pulled - pulled.T + 2 * low @ diagonal @ low.T
    program = cp.Problem(cp.Minimize(rho), [matrix >> 0])
    if error := _solve(cp, program, question):
        return np.full(n, np.nan), error
    if free.value is None:
        return np.full(n, np.nan), str(program.status)
    return np.maximum(shares @ free.value, 0.0) * np.square(unit) / sizes**2, str(program.status)


def _typical(a: Vector, inputs: int) -> Vector:
    """About how large each gate's input is for inputs of length 1, as powers of two."""
    sizes = np.ones(len(a))
    for k, row in enumerate(a):
        reach = math.sqrt(
            float((row[:inputs] ** 2).sum() + ((row[inputs:] * sizes)[:k] ** 2).sum())
        )
        sizes[k] = math.ldexp(1.0, min(math.frexp(reach)[1], 1023)) if 0 < reach < math.inf else 1.0
    return sizes


def _solve(cp: Any, program: Any, question: EstimateRequest) -> str | None:
    """Why there is no solution, however inaccurate; None where there is one."""
    options: dict[str, Any] = (
        {} if question.seconds_left is None else {"time_limit": question.seconds_left}
    )
    try:
        with (
            warnings.catch_warnings()
        ):  # of inaccurate solutions, which are as good as what they prove
            warnings.simplefilter("ignore")
            program.solve(solver=cp.CLARABEL, **options)
    except (cp.SolverError, ValueError) as error:
        return str(error)
    return None


def _cvxpy() -> Any:
    try:
        import clarabel  # noqa: F401, PLC0415 - an extra
        import cvxpy  # noqa: PLC0415
    except ImportError:
        raise SolverUnavailableError(
            "semidefinite programs need cvxpy and Clarabel: pip install 'lipexact[sdp]'"
        ) from None
    return cvxpy


@estimator(
    "eclipse-fast",
    "upper",
    "global",
    norms=EUCLIDEAN,
    networks=CHAINS,
    source="Xu and Sivaranjani, NeurIPS 2024, ECLipsE-Fast",
)
def eclipse_fast(question: EstimateRequest) -> EstimatorOutput:
    """LipSDP layer by layer, with one multiplier for each in closed form."""
    return _eclipse(
        question, "eclipse-fast", lambda k, _: np.full(len(k), 2 / np.linalg.eigvalsh(4 * k)[-1])
    )


@estimator(
    "eclipse",
    "upper",
    "global",
    norms=EUCLIDEAN,
    networks=CHAINS,
    source="Xu and Sivaranjani, NeurIPS 2024, ECLipsE",
)
def eclipse(question: EstimateRequest) -> EstimatorOutput:
    """LipSDP layer by layer, a small semidefinite program for each."""
    return _eclipse(question, "eclipse", lambda k, after: _layer(k, after, question))


def _eclipse(
    question: EstimateRequest, what: str, choose: Callable[[Vector, Vector], Vector]
) -> EstimatorOutput:
    """Multipliers L_i for X_i = L_i - L_i K L_i, K = W_i X_(i-1)^-1 W_i^T / 4, X_0 = I; T = rho L / 2 proves the bound.

    `choose` takes K and the next layer's weights.
    """
    found: list[float] = []
    lefts, right = ends(question, what)
    # First what refuses large networks, before their weights are made dense.
    whole = loop(question.network, _open(question.network), _MOST_PROVEN, what)
    for left, one in zip(lefts, chains(question, what), strict=True):
        try:
            multipliers = _layerwise(one, choose)
        except np.linalg.LinAlgError:  # sizes differ by too much
            multipliers = np.full(whole.gates, np.nan)
        found.append(proven(whole.scaled(left, right), multipliers))
    return _answer(question, found)


def _layerwise(one: Chain, choose: Callable[[Vector, Vector], Vector]) -> Vector:
    """T for one chain."""
    x, chosen = np.eye(one.weights[0].shape[1]), [np.zeros(0)]
    for weight, after in zip(one.weights, one.weights[1:], strict=False):
        k = weight @ np.linalg.solve(x, weight.T) / 4
        k = (k + k.T) / 2
        diagonal = choose(k, after) if k.any() else np.ones(len(k))
        chosen.append(diagonal)
        x = np.diag(diagonal) - diagonal[:, None] * k * diagonal
        x = (x + x.T) / 2
    last = one.weights[-1]
    rho = float(np.linalg.eigvalsh(last @ np.linalg.solve(x, last.T))[-1])
    return np.concatenate(chosen) * rho / 2


def _layer(k: Vector, after: Vector, question: EstimateRequest) -> Vector:
    """The multipliers that keep X above the largest multiple of W^T W for the next weights W; late, closed ones."""
    n = len(k)
    unit = float(np.linalg.eigvalsh(k)[-1])
    values, vectors = np.linalg.eigh(k / unit)
    kept = values > 1e-12
    root = vectors[:, kept] * np.sqrt(values[kept])
    closed = np.full(n, 0.5) / unit
    needed = _seconds([n + root.shape[1]])
    if needed > _MOST_SECONDS:
        raise UnsupportedEstimateError(
            f"eclipse would take about {needed:.2g} s for a layer of {n} neurons; eclipse-fast takes it in closed form"
        )
    if needed > _patience(question):
        return closed
    cp = _cvxpy()
    gram = after.T @ after
    gram = gram / (float(np.linalg.eigvalsh(gram)[-1]) or 1.0)
    free, share = cp.Variable(n, nonneg=True), cp.Variable()
    diagonal = cp.diag(free)
    block = cp.bmat(
        [[diagonal - share * gram, diagonal @ root], [root.T @ diagonal, np.eye(root.shape[1])]]
    )
    program = cp.Problem(cp.Maximize(share), [(block + block.T) / 2 >> 0])
    if _solve(cp, program, question) is None and free.value is not None:
        found = np.maximum(np.asarray(free.value, dtype=np.float64), 0.0)
        if np.linalg.eigvalsh(np.diag(found) - found[:, None] * (k / unit) * found)[0] > 0:
            return found / unit
    return closed
