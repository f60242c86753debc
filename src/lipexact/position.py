"""Whether a network is in general position on a domain (Jordan and Dimakis, NeurIPS 2020, Definition 4).

The kernel of a neuron is the set of inputs at which its pre-activation is 0. Kernels are in general position when
no pre-activation vanishes on a set with interior, and every k kernels meet in dimension at most d - k. A program
that lets each neuron at zero choose its state, such as LipMIP, gives the Lipschitz constant in that case, and may
overestimate it in others. :func:`lipexact.lipschitz` certifies patterns and does not depend on any of this.

Such programs work on the closed domain, so its sides matter as well: here a point of the border is in order when
the neurons that are 0 there take all combinations of signs near it *within* the domain. Inside, this is Definition 4.

What is reported as found is proven: floats only propose, and Fractions or outward error bounds decide. Where the
neurons' pre-activations are affine functions z_i on the domain, all z_i with z_i(x) = 0, and all sides s_j >= 0 on
which x lies, take all signs near x if and only if there is no sum_i c_i z_i + sum_j m_j s_j = 0 with c other than 0
and m >= 0 (Gordan). Such a combination contains one with a minimal set of terms, of at most d + 1 (a circuit), so
it is enough to look at those.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.bounds.linear import bound
from lipexact.domains import Box, ConvexSet
from lipexact.errors import DomainError
from lipexact.graph.ir import Affine, Conditional, Input, Matrix, Node, Switch, Value, Vector
from lipexact.network import Network

_SUBSETS = 20_000  # of kernels and sides that are tested by floats
_CIRCUITS = 1_000  # of them that are looked at in Fractions
_NUMBERS = 300_000  # Fractions that may be touched in all
_SAMPLES = 128
_CORNERS = 2_000
_POINTS_PER_NEURON = 4  # at which it is tested for vanishing
_SINGULAR = 1e-9  # of rows of length 1: far above rounding, so that no exact dependence is missed
_LISTED = 6  # findings of a kind that are spelled out in the text

# --- The report ----------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Neuron:
    """Entry `index` of gate `layer` of `Network.gates`, whose name is `name`."""

    layer: int
    index: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}[{self.index}]"


@dataclass(frozen=True)
class Layer:
    """How many of a layer's neurons have no kink in the domain, and by which state."""

    layer: int
    name: str
    size: int
    on: int
    off: int


@dataclass(frozen=True)
class Vanishing:
    """A neuron whose pre-activation is 0 on the whole domain, or on a neighbourhood of `point`, shape (d,)."""

    neuron: Neuron
    point: tuple[float, ...] | None

    @property
    def everywhere(self) -> bool:
        """Whether it is 0 on the whole domain."""
        return self.point is None


@dataclass(frozen=True)
class Crossing:
    """Kernels that meet in more than general position allows.

    Attributes
    ----------
    neurons
        Whose kernels meet.
    dimension
        They meet in at least this dimension.
    inside
        Whether they are known to meet inside the domain; they meet on its border at least.
    point
        A common point, shape (d,), rounded to floats.
    """

    neurons: tuple[Neuron, ...]
    dimension: int
    inside: bool
    point: tuple[float, ...]


@dataclass(frozen=True)
class Doubt:
    """What may be wrong with some neurons, but could not be decided."""

    neurons: tuple[Neuron, ...]
    reason: str


@dataclass(frozen=True)
class PositionReport:
    """What :func:`general_position_report` found.

    Attributes
    ----------
    dimension
        d, of the domain.
    is_box
        Whether the domain is a box; if not, all that is said holds for the box around it.
    layers
        For each layer how many neurons have no kink in the domain: they play no role.
    vanishing
        Neurons whose pre-activation is 0 on a set with interior.
    coinciding
        Groups of neurons with the same kernel, which crosses the domain.
    touching
        Neurons that are 0 on the domain's border without changing sign in the domain.
    crowded
        Kernels that meet in more than general position allows, of neurons that are affine on the domain; of a
        coinciding group only the first one is named.
    undecided
        What may be wrong, but could not be decided.
    not_examined
        What was not looked at.
    """

    dimension: int
    is_box: bool
    layers: tuple[Layer, ...]
    vanishing: tuple[Vanishing, ...]
    coinciding: tuple[tuple[Neuron, ...], ...]
    touching: tuple[Neuron, ...]
    crowded: tuple[Crossing, ...]
    undecided: tuple[Doubt, ...]
    not_examined: tuple[str, ...]

    @property
    def in_general_position(self) -> bool | None:
        """False: a violation is proven. True: there is none on the closed domain, proven. None: not decided."""
        if not self.is_box:
            return None
        if self.vanishing or self.coinciding or self.touching or self.crowded:
            return False
        return None if self.undecided or self.not_examined else True

    def to_dict(self) -> dict[str, Any]:
        """Lists, strings and numbers only."""
        plain: dict[str, Any] = _plain(asdict(self))
        return {"in_general_position": self.in_general_position, **plain}

    def __str__(self) -> str:
        total = sum(layer.size for layer in self.layers)
        kinks = total - sum(layer.on + layer.off for layer in self.layers)
        lines = [
            f"General position: {_ANSWER[self.in_general_position]}.",
            f"{kinks} of {total} neurons may have a kink in the domain; the others play no role.",
        ]
        if not self.is_box:
            lines.append("The domain is not a box: what follows holds for the box around it.")
        findings = [
            *_listed("Zero on a whole region", map(_vanishing_text, self.vanishing)),
            *_listed("Same kernel", (_names(group) for group in self.coinciding)),
            *_listed("Zero on the domain's border only", _by_layer(self.touching)),
            *_listed("Too many kernels in one place", map(_crossing_text, self.crowded)),
        ]
        lines += findings
        if findings:
            lines.append(
                "Programs that let each neuron at zero choose its state, such as LipMIP, may overestimate here; "
                "lipexact's answer stays exact."
            )
        elif self.in_general_position:
            lines.append(
                "Programs that let each neuron at zero choose its state, such as LipMIP, lose nothing by that here."
            )
        lines += _listed("Not decided", (f"{_names(doubt.neurons)}: {doubt.reason}" for doubt in self.undecided))
        lines += _listed("Not looked at", self.not_examined)
        return "\n".join(lines)


_ANSWER = {True: "yes", False: "no", None: "not decided"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _listed(title: str, entries: Iterable[str]) -> list[str]:
    texts = list(entries)
    more = [f"  ... and {len(texts) - _LISTED} more"] if len(texts) > _LISTED else []
    return [f"{title}:", *(f"  {text}" for text in texts[:_LISTED]), *more] if texts else []


def _names(neurons: Sequence[Neuron]) -> str:
    shown = ", ".join(map(str, neurons[:_LISTED]))
    return f"{shown} and {len(neurons) - _LISTED} more" if len(neurons) > _LISTED else shown


def _by_layer(neurons: Sequence[Neuron]) -> list[str]:
    return [_names(list(group)) for _, group in itertools.groupby(neurons, key=lambda neuron: neuron.layer)]


def _at(point: tuple[float, ...]) -> str:
    return f" at ({', '.join(f'{entry:.6g}' for entry in point)})" if len(point) <= 4 else ""


def _vanishing_text(found: Vanishing) -> str:
    if found.point is None:
        return f"{found.neuron} everywhere"
    return f"{found.neuron} on a part of the domain" + (
        f", such as near{_at(found.point)[3:]}" if _at(found.point) else ""
    )


def _crossing_text(found: Crossing) -> str:
    what = {0: "in a point", 1: "in a line"}.get(found.dimension, f"in dimension {found.dimension}")
    where = "inside the domain" if found.inside else "on the domain's border"
    return f"{_names(found.neurons)} meet {what} {where}{_at(found.point)}"


# --- Affine forms --------------------------------------------------------------------------------------

# Coefficients other than 0 by (node, entry), where a node is numbered, and the constant is at _CONSTANT.
_Key: TypeAlias = tuple[int, int]
_Form: TypeAlias = dict[_Key, Fraction]
_CONSTANT = (-1, 0)
_ON, _OFF, _OPEN = 1, 0, -1
_States: TypeAlias = Mapping[Conditional, npt.NDArray[np.int8]]


class _BudgetSpent(Exception):  # noqa: N818 - no error: the caller says what was left out
    """More Fractions than one may wait for."""


@dataclass
class _Budget:
    left: int = _NUMBERS

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _BudgetSpent


class _Forms:
    """Values of the network as affine forms of atoms: the input, and the neurons that are not known to be off."""

    def __init__(self, network: Network, states: _States, budget: _Budget) -> None:
        self.order = {node: number for number, node in enumerate(network.graph.nodes)}
        self._states = states
        self._budget = budget
        self._floats: dict[Node, tuple[dict[Node, Matrix], Vector]] = {}
        self._exact: dict[_Key, _Form] = {}
        self._rows: dict[tuple[Affine, int], Matrix] = {}

    def floats(self, node: Value) -> tuple[dict[Node, Matrix], Vector]:
        """A sparse matrix for each atom, and a constant; in floats, without a bound of their error.

        Neurons that are on are atoms here, which saves products of large matrices.
        """
        if not isinstance(node, Affine):
            kept = self._states[node.gate] != _OFF if isinstance(node, Switch) else np.ones(node.size)
            return {node: sp.diags_array(kept.astype(np.float64)).tocsr()}, np.zeros(node.size)
        if node not in self._floats:
            total: dict[Node, Matrix] = {}
            constant = node.bias.copy()
            for k, (_, x) in enumerate(node.terms):
                weight = self._weight(node, k)
                below, offset = self.floats(x)
                constant = constant + weight @ offset
                for atom, matrix in below.items():
                    product = weight @ matrix
                    total[atom] = total[atom] + product if atom in total else product
            for matrix in total.values():
                matrix.eliminate_zeros()
            self._floats[node] = total, constant
        return self._floats[node]

    def exact(self, node: Value, i: int) -> _Form:
        """Entry i of a node.

        Raises
        ------
        _BudgetSpent
            If that takes too many Fractions.
        """
        key = self.order[node], i
        if key not in self._exact:
            match node:
                case Input():
                    form = {key: Fraction(1)}
                case Affine():
                    form = self._exact_affine(node, i)
                case Switch():
                    state = self._states[node.gate][i]
                    form = {} if state == _OFF else self.exact(node.x, i)
                    if form and state == _OPEN:  # what is identically 0 stays so, whatever its gate
                        form = {key: Fraction(1)}
                case _:
                    assert_never(node)
            self._exact[key] = form
        return self._exact[key]

    def _exact_affine(self, node: Affine, i: int) -> _Form:
        total: _Form = {_CONSTANT: Fraction(float(node.bias[i]))}
        for k, (_, x) in enumerate(node.terms):
            weight = self._weight(node, k)
            row = slice(weight.indptr[i], weight.indptr[i + 1])
            for j, entry in zip(weight.indices[row].tolist(), weight.data[row].tolist(), strict=True):
                if not entry:
                    continue
                below = self.exact(x, j)
                self._budget.spend(1 + len(below))
                factor = Fraction(entry)
                for key, coefficient in below.items():
                    total[key] = total.get(key, Fraction(0)) + factor * coefficient
        return {key: coefficient for key, coefficient in total.items() if coefficient}

    def _weight(self, node: Affine, k: int) -> Matrix:
        if (node, k) not in self._rows:
            self._rows[node, k] = sp.csr_array(node.terms[k][0])
        return self._rows[node, k]


def _values(network: Network, points: Vector) -> tuple[dict[Node, Vector], dict[Node, Vector]]:
    """The value of every node but the gates at the points, and a bound of its error; each of shape (points, size)."""
    values: dict[Node, Vector] = {}
    errors: dict[Node, Vector] = {}
    # Where these overflow, errors are infinite or comparisons false: nothing is sure.
    with np.errstate(over="ignore", invalid="ignore"):
        for node in network.graph.nodes:
            _enter_value(node, points, values, errors)
    return values, errors


def _enter_value(node: Node, points: Vector, values: dict[Node, Vector], errors: dict[Node, Vector]) -> None:
    match node:
        case Input():
            values[node], errors[node] = points, np.zeros_like(points)
        case Affine():
            value = np.broadcast_to(node.bias, (len(points), node.size))
            size, error, steps = np.abs(value), np.zeros_like(value), 4
            for weight, x in node.terms:
                value = value + (weight @ values[x].T).T
                size = size + (abs(weight) @ np.abs(values[x]).T).T
                error = error + (abs(weight) @ errors[x].T).T
                steps += x.size + 2
            # Twice what the usual analysis gives, which covers the rounding of the bound; 1e-300 for underflow.
            lost = (size + error) * steps * 2.0**-52
            values[node], errors[node] = value, np.where(size + error > 0, error + lost + 1e-300 * steps, 0.0)
        case Conditional():
            pass
        case Switch():
            on = values[node.gate.x] > 0
            sure = np.abs(values[node.gate.x]) > errors[node.gate.x]
            values[node] = values[node.x] * on
            if node.gate.x is node.x:
                errors[node] = np.where(sure & ~on, 0.0, errors[node.x])
            else:
                errors[node] = np.where(sure, errors[node.x] * on, errors[node.x] + np.abs(values[node.x]))
        case _:
            assert_never(node)


# --- Linear algebra in Fractions -----------------------------------------------------------------------

_Row: TypeAlias = list[Fraction]


def _reduce(rows: Iterable[_Row], columns: Sequence[int]) -> dict[int, _Row]:
    """The reduced echelon form by pivot column, with pivots in the given columns, the first ones preferred."""
    pivots: dict[int, _Row] = {}
    for row in rows:
        rest = _remainder(row, pivots)
        pivot = next((c for c in columns if rest[c]), None)
        if pivot is None:
            if any(rest):  # a contradiction, which the caller sees by its pivot
                pivots[len(row)] = rest
            continue
        rest = [entry / rest[pivot] for entry in rest]
        for other, above in pivots.items():
            if above[pivot]:
                pivots[other] = [a - above[pivot] * r for a, r in zip(above, rest, strict=True)]
        pivots[pivot] = rest
    return pivots


def _remainder(row: _Row, pivots: Mapping[int, _Row]) -> _Row:
    for pivot, above in pivots.items():
        if pivot < len(row) and row[pivot]:
            row = [r - row[pivot] * a for r, a in zip(row, above, strict=True)]
    return row


def _dependence(rows: Sequence[_Row]) -> _Row | None:
    """c without a 0 such that sum_i c_i row_i = 0, where that is so for one c up to scaling; else None."""
    width = len(rows[0])
    labelled = [[*row, *(Fraction(int(i == k)) for i in range(len(rows)))] for k, row in enumerate(rows)]
    found: _Row | None = None
    pivots: dict[int, _Row] = {}
    for row in labelled:
        rest = _remainder(row, pivots)
        pivot = next((c for c in range(width) if rest[c]), None)
        if pivot is not None:
            pivots[pivot] = [entry / rest[pivot] for entry in rest]
        elif found is not None:
            return None
        else:
            found = rest[width:]
    return found if found is not None and all(found) else None


@dataclass(frozen=True)
class _Place:
    """Where forms have a common zero y in [-1, 1]^d: "inside", "border", "outside" (nowhere) or "unknown"."""

    where: str
    dimension: int = 0
    point: tuple[Fraction, ...] = ()


def _common_zero(rows: Sequence[_Row]) -> _Place:
    """Where forms (w_1, ..., w_d, b) of y in [-1, 1]^d are 0 together."""
    d = len(rows[0]) - 1
    reduced = _reduce(rows, range(d))
    if d + 1 in reduced:
        return _Place("outside")
    if len(reduced) == d:
        return _judge(reduced, [0.0] * d)
    if max(abs(entry) for row in reduced.values() for entry in row) > 10**100:
        return _Place("unknown")
    matrix = np.array([[float(entry) for entry in row] for row in reduced.values()])
    # min t with |y_j| <= t: t < 1 inside, t > 1 outside.
    result = scipy.optimize.linprog(
        np.append(np.zeros(d), 1.0),
        A_ub=np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]]),
        b_ub=np.zeros(2 * d),
        A_eq=np.hstack([matrix[:, :-1], np.zeros((len(matrix), 1))]),
        b_eq=-matrix[:, -1],
        bounds=(None, None),
        method="highs",
    )
    if result.status != 0:
        return _Place("unknown")
    if _never_zero(list(reduced.values()), result.eqlin.marginals):
        return _Place("outside")
    y = np.clip(result.x[:d], -1.0, 1.0)
    # Coordinates with room to spare follow from the others.
    reduced = _reduce(reduced.values(), np.argsort(np.abs(y), kind="stable").tolist())
    return _judge(reduced, np.where(np.abs(y) > 1 - 1e-6, np.sign(y), y).tolist())


def _judge(reduced: Mapping[int, _Row], free: Sequence[float]) -> _Place:
    """The common zero whose coordinates other than the pivots are given."""
    d = len(free)
    y = [Fraction(value) for value in free]
    for pivot, row in reduced.items():
        y[pivot] = -row[d] - sum((row[j] * y[j] for j in range(d) if j not in reduced and row[j]), Fraction(0))
    dimension = d - len(reduced)
    largest = max(map(abs, y))
    if largest > 1:
        return _Place("unknown" if dimension else "outside")
    return _Place("inside" if largest < 1 else "border", dimension, tuple(y))


def _never_zero(rows: Sequence[_Row], weights: Sequence[float]) -> bool:
    """Whether the weighted sum of the forms has one sign on [-1, 1]^d: then they are not 0 together."""
    factors = [Fraction(float(weight)) for weight in weights]
    total = [
        sum((f * entry for f, entry in zip(factors, column, strict=True)), Fraction(0))
        for column in zip(*rows, strict=True)
    ]
    return bool(abs(total[-1]) > sum(map(abs, total[:-1])))


# --- The examination -----------------------------------------------------------------------------------


def general_position_report(network: Network, domain: ConvexSet) -> PositionReport:
    """Which neurons coincide, vanish, or meet in more kernels than general position allows.

    It is decided as far as that is cheap. Networks with one hidden layer, few inputs and a few dozen neurons are
    decided; in deeper layers, crossings of kernels are not looked at.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        A box; of another domain the box around it is examined.

    Returns
    -------
    PositionReport
        With a plain text as its ``str``.

    Raises
    ------
    DomainError
        If the domain does not fit the network.

    Notes
    -----
    Definition 4 of Jordan and Dimakis, "Exactly Computing the Local Lipschitz Constant of ReLU Networks",
    NeurIPS 2020.

    Examples
    --------
    >>> from lipexact.graph.ir import Affine, Graph, Input
    >>> from lipexact.graph.lower import relu
    >>> from lipexact.network import network
    >>> x = Input(1)
    >>> hidden = relu(Affine(((np.array([[1.0], [-1.0]]), x),), np.zeros(2)))
    >>> identity = Affine(((np.array([[1.0, -1.0]]), hidden),), np.zeros(1))
    >>> net = network(Graph((x,), (identity,)), input_shape=(1,), output_shape=(1,), name="identity")
    >>> report = general_position_report(net, Box([-1], [1]))
    >>> report.in_general_position
    False
    >>> print(report)  # doctest: +ELLIPSIS
    General position: no.
    2 of 2 neurons may have a kink in the domain; the others play no role.
    Same kernel:
      relu[0], relu[1]
    Programs that let each neuron at zero choose its state, such as LipMIP, may overestimate here; lipexact's ...
    """
    if not isinstance(domain, ConvexSet):
        raise DomainError(f"the domain must be a Box or a Ball, not {type(domain).__name__}; every input needs limits")
    if domain.dim != network.input.size:
        raise DomainError(
            f"the domain has {domain.dim} dimensions, the network's input {network.input.size} "
            f"(shape {network.input_shape})"
        )
    is_box = bool(getattr(domain, "is_box", isinstance(domain, Box)))
    return _Examination(network, domain if is_box else Box(domain.lower, domain.upper)).report(is_box)


# What is known of a neuron in the domain. Crossing neurons change sign inside it.
_STABLE_ON, _STABLE_OFF, _CROSSES, _TOUCHES, _ZERO, _UNKNOWN = range(6)


@dataclass
class _Kernel:
    """A neuron that is affine on the domain and changes sign in it."""

    neuron: Neuron
    node: Value
    floats: Vector = field(repr=False)  # (w_1, ..., w_d, b) in x


class _Examination:
    def __init__(self, network: Network, box: ConvexSet) -> None:
        self.network = network
        self.lower, self.upper = np.asarray(box.lower), np.asarray(box.upper)
        self.budget = _Budget()
        self.states: dict[Conditional, npt.NDArray[np.int8]] = {}
        self.forms = _Forms(network, self.states, self.budget)
        self.bounds = bound(network.graph, {network.input: box})
        rng = np.random.default_rng(0)
        points = rng.uniform(self.lower, self.upper, (_SAMPLES, box.dim))
        self.points = points[((self.lower < points) & (points < self.upper)).all(axis=1)]
        self.values, self.errors = _values(network, self.points)
        self.kinds: list[npt.NDArray[np.int8]] = []
        self.affine: list[npt.NDArray[np.bool_]] = []
        self.vanishing: list[Vanishing] = []
        self.coinciding: list[tuple[Neuron, ...]] = []
        self.crowded: list[Crossing] = []
        self.doubts: list[Doubt] = []
        self.skipped: list[str] = []

    def report(self, is_box: bool) -> PositionReport:
        for layer in range(len(self.network.gates)):
            self._classify(layer)
        self._find_vanishing()
        self._find_coinciding()
        self._find_crowded()
        self._note_rest()
        layers = tuple(
            Layer(k, _name(k, gate), gate.size, int((kinds == _STABLE_ON).sum()), int((kinds == _STABLE_OFF).sum()))
            for k, (gate, kinds) in enumerate(zip(self.network.gates, self.kinds, strict=True))
        )
        return PositionReport(
            dimension=self.network.input.size,
            is_box=is_box,
            layers=layers,
            vanishing=tuple(sorted(self.vanishing, key=lambda found: found.neuron)),
            coinciding=tuple(sorted(self.coinciding)),
            touching=tuple(self._neurons(lambda kind, _: kind == _TOUCHES)),
            crowded=tuple(sorted(self.crowded, key=lambda found: (-len(found.neurons), found.neurons))),
            undecided=tuple(self.doubts),
            not_examined=tuple(self.skipped),
        )

    def _neuron(self, layer: int, i: int) -> Neuron:
        return Neuron(layer, i, _name(layer, self.network.gates[layer]))

    def _neurons(self, chosen: Callable[[npt.NDArray[np.int8], npt.NDArray[np.bool_]], Any]) -> Iterator[Neuron]:
        """The neurons whose kind and affinity are chosen."""
        for layer, (kinds, affine) in enumerate(zip(self.kinds, self.affine, strict=True)):
            for i in np.flatnonzero(chosen(kinds, affine)).tolist():
                yield self._neuron(layer, i)

    def _exact(self, node: Value, i: int) -> _Form | None:
        try:
            return self.forms.exact(node, i)
        except _BudgetSpent:
            return None

    # Which neurons cross the domain.

    def _classify(self, layer: int) -> None:
        gate = self.network.gates[layer]
        lower, upper = self.bounds[gate.x]
        kinds = np.where(lower > 0, _STABLE_ON, np.where(upper < 0, _STABLE_OFF, _UNKNOWN)).astype(np.int8)
        affine = self._is_affine(gate, kinds == _UNKNOWN)
        values, errors = self.values[gate.x], self.errors[gate.x]
        change = (values > errors).any(axis=0) & (values < -errors).any(axis=0)
        kinds[(kinds == _UNKNOWN) & change] = _CROSSES
        self._classify_at_corners(gate, kinds, affine)
        for i in np.flatnonzero((kinds == _UNKNOWN) & affine).tolist():
            kinds[i] = self._classify_exactly(gate, i)
            if kinds[i] == _ZERO:
                self.vanishing.append(Vanishing(self._neuron(layer, i), None))
        self.kinds.append(kinds)
        self.affine.append(affine)
        self.states[gate] = np.where(kinds == _STABLE_OFF, _OFF, _OPEN).astype(np.int8)

    def _is_affine(self, gate: Conditional, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of the neurons read nothing but the input, and neurons that are off."""
        affine = rows.copy()
        for atom, matrix in self.forms.floats(gate.x)[0].items():
            if not isinstance(atom, Input):
                affine &= np.diff(matrix.indptr) == 0
        if not _reads_input(gate.x):
            for i in np.flatnonzero(affine).tolist():  # what cancels in floats need not do so
                form = self._exact(gate.x, i)
                affine[i] = form is not None and self._slopes(form).keys() | {_CONSTANT} >= form.keys()
        return affine

    def _slopes(self, form: _Form) -> _Form:
        """The part that reads the input."""
        number = self.forms.order.get(self.network.input)
        return {key: slope for key, slope in form.items() if key[0] == number}

    def _classify_at_corners(
        self, gate: Conditional, kinds: npt.NDArray[np.int8], affine: npt.NDArray[np.bool_]
    ) -> None:
        """Signs that are sure at the corners where the neurons are largest and smallest; they hold inside nearby."""
        rows = np.flatnonzero((kinds == _UNKNOWN) & affine)[:_CORNERS]
        linear = self.forms.floats(gate.x)[0].get(self.network.input)
        if not rows.size or linear is None:
            return
        likes, own = linear[rows].toarray() > 0, (np.arange(rows.size), rows)
        change = np.ones(rows.size, dtype=bool)
        for sign, corners in (
            (1, np.where(likes, self.upper, self.lower)),
            (-1, np.where(likes, self.lower, self.upper)),
        ):
            values, errors = _values(self.network, corners)
            change &= sign * values[gate.x][own] > errors[gate.x][own]
        kinds[rows[change]] = _CROSSES

    def _classify_exactly(self, gate: Conditional, i: int) -> int:
        form = self._exact(gate.x, i)
        if not form:
            return _UNKNOWN if form is None else _ZERO
        middle, reach = form.get(_CONSTANT, Fraction(0)), Fraction(0)
        for (_, j), slope in self._slopes(form).items():
            low, high = Fraction(float(self.lower[j])), Fraction(float(self.upper[j]))
            middle += slope * (low + high) / 2
            reach += abs(slope) * (high - low) / 2
        if abs(middle) > reach:
            return _STABLE_ON if middle > 0 else _STABLE_OFF
        return _TOUCHES if abs(middle) == reach else _CROSSES

    # Which vanish.

    def _find_vanishing(self) -> None:
        found: set[tuple[int, int]] = {(each.neuron.layer, each.neuron.index) for each in self.vanishing}
        near: dict[int, _Forms] = {}
        for layer, gate in enumerate(self.network.gates):
            # Where it is affine on the domain, and not 0 on all of it, it is 0 on no region.
            open_ones = np.isin(self.kinds[layer], (_CROSSES, _UNKNOWN)) & ~self.affine[layer]
            zero = (np.abs(self.values[gate.x]) <= self.errors[gate.x]) & open_ones
            for i in np.flatnonzero(zero.any(axis=0)).tolist():
                for k in np.flatnonzero(zero[:, i])[:_POINTS_PER_NEURON].tolist():
                    if k not in near:
                        near[k] = _Forms(self.network, self._states_at(k), self.budget)
                    try:
                        vanishes = near[k].exact(gate.x, i) == {}
                    except _BudgetSpent:
                        break
                    if vanishes:
                        found.add((layer, i))
                        self.vanishing.append(Vanishing(self._neuron(layer, i), tuple(self.points[k].tolist())))
                        break
            doubtful = [self._neuron(layer, i) for i in self._bare(layer) if (layer, i) not in found]
            if doubtful:
                self.doubts.append(
                    Doubt(tuple(doubtful), "zero wherever all that they read is off, if there is such a region")
                )

    def _states_at(self, k: int) -> _States:
        """The gates near a sampled point, open where their signs are not sure."""
        states = {}
        for gate in self.network.gates:
            values, errors = self.values[gate.x][k], self.errors[gate.x][k]
            states[gate] = np.where(values > errors, _ON, np.where(values < -errors, _OFF, _OPEN)).astype(np.int8)
        return states

    def _bare(self, layer: int) -> list[int]:
        """Neurons without a bias that read nothing but neurons with a kink."""
        terms, constant = self.forms.floats(self.network.gates[layer].x)
        bare = (constant == 0) & ~self.affine[layer] & np.isin(self.kinds[layer], (_CROSSES, _UNKNOWN))
        for atom, matrix in terms.items():
            if not isinstance(atom, Switch):
                bare &= np.diff(matrix.indptr) == 0
        return np.flatnonzero(bare).tolist()

    # Which coincide.

    def _find_coinciding(self) -> None:
        rng = np.random.default_rng(1)
        direction = {node: rng.normal(size=node.size) for node in self.network.graph.nodes}
        offset = rng.normal()
        projections: list[tuple[float, int, int]] = []
        for layer, gate in enumerate(self.network.gates):
            rows = np.isin(self.kinds[layer], (_CROSSES, _UNKNOWN))
            terms, constant = self.forms.floats(gate.x)
            largest = np.max([np.abs(constant), *(_largest(matrix) for matrix in terms.values())], axis=0)
            rows &= largest > 1e-300
            scale = sp.diags_array(np.where(rows, 1.0 / np.where(rows, largest, 1.0), 0.0))
            total, square = scale @ constant * offset, (scale @ constant) ** 2
            for atom, matrix in terms.items():
                scaled = scale @ matrix
                total = total + scaled @ direction[atom]
                square = square + np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel()
            for i in np.flatnonzero(rows).tolist():
                projections += [(abs(float(total[i])) / math.sqrt(float(square[i])), layer, i)]
        projections.sort()
        breaks = [k for k in range(1, len(projections)) if projections[k][0] - projections[k - 1][0] > 1e-9]
        for start, end in zip([0, *breaks], [*breaks, len(projections)], strict=True):
            if end - start > 1:
                self._group([(layer, i) for _, layer, i in projections[start:end]])

    def _group(self, candidates: list[tuple[int, int]]) -> None:
        """Of neurons that may coincide, those whose forms are multiples of each other."""
        groups: dict[tuple[tuple[_Key, Fraction], ...], list[tuple[int, int]]] = {}
        skipped = []
        for layer, i in sorted(candidates):
            form = self._exact(self.network.gates[layer].x, i)
            try:
                self.budget.spend(len(form or ()))
            except _BudgetSpent:
                form = None
            if not form:
                skipped.append(self._neuron(layer, i))
                continue
            keys = sorted(form, reverse=True)
            groups.setdefault(tuple((key, form[key] / form[keys[0]]) for key in keys), []).append((layer, i))
        for form_, group in groups.items():
            if len(group) > 1 and form_[0][0] != _CONSTANT:
                neurons = tuple(self._neuron(*each) for each in group)
                if any(self.kinds[layer][i] == _CROSSES for layer, i in group):
                    self.coinciding.append(neurons)
                else:
                    self.doubts.append(Doubt(neurons, "the same kernel, if it crosses the domain"))
        if skipped:
            self.doubts.append(Doubt(tuple(skipped), "may coincide; comparing them exactly took too long"))

    # Which meet.

    def _find_crowded(self) -> None:
        repeated = {neuron for group in self.coinciding for neuron in group[1:]}
        kernels = []
        for neuron in self._neurons(lambda kind, affine: (kind == _CROSSES) & affine):
            if neuron not in repeated:
                node = self.network.gates[neuron.layer].x
                terms, constant = self.forms.floats(node)
                row = terms[self.network.input][[neuron.index]].toarray()[0]
                kernels.append(_Kernel(neuron, node, np.append(row, constant[neuron.index])))
        if len(kernels) > 1:
            _Crowd(self, kernels).run()

    def _note_rest(self) -> None:
        unknown = tuple(self._neurons(lambda kind, affine: (kind == _UNKNOWN) & affine))
        if unknown:
            self.doubts.append(Doubt(unknown, "whether they change sign in the domain took too long to decide"))
        deep = list(self._neurons(lambda kind, affine: np.isin(kind, (_CROSSES, _UNKNOWN)) & ~affine))
        if deep:
            self.skipped.append(
                f"{len(deep)} neurons that read neurons with a kink: where their kernels, which bend, cross others, "
                "and whether they vanish on regions that no sample met"
            )
        if self.budget.left < 0:
            self.skipped.append("some of what floats suggest: the budget of exact arithmetic was spent")


def _reads_input(node: Value) -> bool:
    """Whether nothing is between the node and the input, so that its float form is exact."""
    return isinstance(node, Input) or (isinstance(node, Affine) and all(isinstance(x, Input) for _, x in node.terms))


def _largest(matrix: Matrix) -> Vector:
    return np.asarray(abs(matrix).max(axis=1).toarray()).ravel()


def _name(layer: int, gate: Conditional) -> str:
    return gate.name.removesuffix("_gate") or f"layer {layer}"


class _Crowd:
    """Circuits among the kernels of neurons that are affine on the domain, and the sides of the domain."""

    def __init__(self, exam: _Examination, kernels: list[_Kernel]) -> None:
        self.exam, self.kernels = exam, kernels
        self.low = [Fraction(value) for value in exam.lower.tolist()]
        self.high = [Fraction(value) for value in exam.upper.tolist()]
        self.half = [(high - low) / 2 for low, high in zip(self.low, self.high, strict=True)]
        self.middle = [(high + low) / 2 for low, high in zip(self.low, self.high, strict=True)]
        self.d = len(self.low)
        self.rows: dict[int, _Row] = {}
        self.groups: list[set[int]] = []
        self.checks = 0

    def run(self) -> None:
        n, d = len(self.kernels), self.d
        sizes = ((k, j) for k in range(2, d + 2) for j in range(d + 2 - k))
        # Two kernels with the sides of ten coordinates are too many.
        if d <= 10 and sum(math.comb(n, k) * math.comb(d, j) * 2**j for k, j in sizes) <= _SUBSETS:
            try:
                self._all()
            except _BudgetSpent:
                self._skip("the exact test of all their crossings was cut short")
        else:
            self._skip("where their kernels cross on the domain's border")
            if not self._independent():
                self._skip("crossings inside the domain, but for some small subsets and some points")
                with contextlib.suppress(_BudgetSpent):
                    self._some()

    def _skip(self, text: str) -> None:
        self.exam.skipped.append(f"{len(self.kernels)} neurons that are affine on the domain: {text}")

    def _form(self, k: int) -> _Form:
        kernel = self.kernels[k]
        return self.exam.forms.exact(kernel.node, kernel.neuron.index)

    def _row(self, k: int) -> _Row:
        """The form of y in [-1, 1]^d, where x = middle + half y."""
        if k not in self.rows:
            form = self._form(k)
            self.exam.budget.spend(self.d)
            slopes = [form.get((self.exam.forms.order[self.exam.network.input], j), Fraction(0)) for j in range(self.d)]
            constant = form.get(_CONSTANT, Fraction(0)) + sum(map(_product, slopes, self.middle), Fraction(0))
            self.rows[k] = [*map(_product, slopes, self.half), constant]
        return self.rows[k]

    # All subsets.

    def _all(self) -> None:
        n, d = len(self.kernels), self.d
        rows = [self._row(k) for k in range(n)]
        sides = {}
        for j, sign in itertools.product(range(d), (1, -1)):  # positive inside
            sides[j, sign] = len(rows)
            rows.append([Fraction(-sign * int(i == j)) for i in range(d)] + [Fraction(1)])
        for size in range(2, d + 2):
            for used in range(size - 1):
                faces = [
                    [sides[j, sign] for j, sign in zip(chosen, signs, strict=True)]
                    for chosen in itertools.combinations(range(d), used)
                    for signs in itertools.product((1, -1), repeat=used)
                ]
                subsets = [[*group, *face] for group in itertools.combinations(range(n), size - used) for face in faces]
                self._test(subsets, rows, size - used)

    def _test(self, subsets: list[list[int]], rows: list[_Row], kernels: int) -> None:
        """Look at those subsets that floats do not show to be independent; their first entries are kernels."""
        if not subsets:
            return
        floats = np.array([_unit_floats(row) for row in rows])
        singular = np.linalg.svd(floats[np.array(subsets)], compute_uv=False)[:, -1] <= _SINGULAR
        for k in np.flatnonzero(singular).tolist():
            subset = subsets[k]
            if any(group.issuperset(subset[:kernels]) for group in self.groups):
                continue
            self.checks += 1
            if self.checks > _CIRCUITS:
                raise _BudgetSpent
            self._look(subset, rows, kernels)

    def _look(self, subset: list[int], rows: list[_Row], kernels: int) -> None:
        chosen = [rows[k] for k in subset]
        factors = _dependence(chosen)
        # With sides of both signs, all combinations of the neurons' signs are there.
        if factors is None or len({factor > 0 for factor in factors[kernels:]}) > 1:
            return
        place = _common_zero(chosen)
        if place.where == "outside":
            return
        neurons = tuple(self.kernels[k].neuron for k in subset[:kernels])
        if place.where == "unknown":
            self.exam.doubts.append(
                Doubt(neurons, "their kernels meet in too much near the domain's border, or outside")
            )
            return
        reduced = _reduce(chosen, range(self.d))
        through = [k for k in range(len(self.kernels)) if not any(_remainder(rows[k], reduced))]
        self._found(through, place.dimension, place.where == "inside", self._floats(place.point))

    def _floats(self, y: Sequence[Fraction]) -> tuple[float, ...]:
        return tuple(float(m + h * e) for m, h, e in zip(self.middle, self.half, y, strict=True))

    def _found(self, group: list[int], dimension: int, inside: bool, point: tuple[float, ...]) -> None:
        self.groups.append(set(group))
        neurons = tuple(self.kernels[k].neuron for k in group)
        self.exam.crowded.append(Crossing(neurons, dimension, inside, point))

    # Some subsets.

    def _independent(self) -> bool:
        """Whether the normals of all kernels are independent, so that kernels alone have no circuit."""
        n, d = len(self.kernels), self.d
        exact = all(_reads_input(kernel.node) for kernel in self.kernels)
        if n > d or n * n * d > 1e9 or not exact:
            return False
        width = self.exam.upper / 2 - self.exam.lower / 2
        normals = np.array([kernel.floats[:-1] for kernel in self.kernels])
        normals = normals / np.abs(normals).max(axis=1, keepdims=True) * (width / width.max())
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        return bool(lengths.min() > 1e-100 and np.linalg.svd(normals / lengths, compute_uv=False)[-1] > 1e-8)

    def _some(self) -> None:
        """Crossings in a few points, and small subsets; pairs are compared elsewhere."""
        n, d = len(self.kernels), self.d
        self._through_candidates()
        left = min(_SUBSETS, 20_000_000 // (d * d))
        for size in range(3, d + 2):
            left -= math.comb(n, size)
            if left < 0:
                break
            self._test(
                [list(each) for each in itertools.combinations(range(n), size)], list(map(self._row, range(n))), size
            )

    def _through_candidates(self) -> None:
        """More than d kernels through one point: the origin, the middle, two corners, and the best one for all."""
        floats = np.array([kernel.floats for kernel in self.kernels])
        floats = floats / np.abs(floats).max(axis=1, keepdims=True)
        linear, constant = floats[:, :-1], floats[:, -1]
        best = self._best(linear, constant)
        for point in ([Fraction(0)] * self.d, self.middle, self.low, self.high, *([best] if best else [])):
            if not all(low <= x <= high for low, x, high in zip(self.low, point, self.high, strict=True)):
                continue
            x = np.array([float(entry) for entry in point])
            near = np.abs(linear @ x + constant) <= 1e-9 * (1 + np.abs(linear) @ np.abs(x))
            if near.sum() <= self.d:
                continue
            through = [k for k in np.flatnonzero(near).tolist() if self._is_zero(k, point)]
            if len(through) > self.d and not any(group.issuperset(through) for group in self.groups):
                inside = all(low < x < high for low, x, high in zip(self.low, point, self.high, strict=True))
                self._found(through, 0, inside, tuple(x.tolist()))

    def _is_zero(self, k: int, point: Sequence[Fraction]) -> bool:
        form = self._form(k)
        self.exam.budget.spend(1 + sum(bool(entry) for entry in point))
        total = form.get(_CONSTANT, Fraction(0))
        for (_, j), slope in ((key, value) for key, value in form.items() if key != _CONSTANT and point[key[1]]):
            total += slope * point[j]
        return not total

    def _best(self, linear: Vector, constant: Vector) -> list[Fraction] | None:
        """The one point through which most kernels go, if floats show one and it is small enough to be exact."""
        if self.d > 12:
            return None
        x, _, rank, _ = np.linalg.lstsq(linear, -constant, rcond=None)
        if rank < self.d or np.abs(linear @ x + constant).max() > 1e-6 * (1 + np.abs(x).max()):
            return None
        reduced: dict[int, _Row] = {}
        for k in range(len(self.kernels)):
            reduced = _reduce([*reduced.values(), self._row(k)], range(self.d))
            if len(reduced) == self.d or self.d + 1 in reduced:
                break
        if len(reduced) < self.d or self.d + 1 in reduced:
            return None
        y = [-reduced[j][self.d] for j in range(self.d)]
        return [m + h * e for m, h, e in zip(self.middle, self.half, y, strict=True)]


def _product(a: Fraction, b: Fraction) -> Fraction:
    return a * b


def _unit_floats(row: _Row) -> Vector:
    """A row of length 1, every entry right to rounding; scaled in Fractions, as floats may under- or overflow."""
    largest = max(map(abs, row))
    floats = np.array([float(entry / largest) for entry in row])
    return np.asarray(floats / np.linalg.norm(floats))
