"""Whether a network is in general position on a domain (Jordan and Dimakis, NeurIPS 2020, Definition 4).

The kernel of a neuron is the set of inputs at which its pre-activation is 0. Kernels are in general position when
no pre-activation vanishes on a set with interior, and every k kernels meet in dimension at most d - k. A program
that lets each neuron at zero choose its state, such as LipMIP, gives the Lipschitz constant in that case, and may
overestimate it in others. :func:`lipexact.lipschitz` certifies patterns and does not depend on any of this.

Such programs work on the closed domain, so "yes" also means that kernels and the sides of the domain together are
in general position. Floats only propose: what is reported is proven in Fractions, or by bounds rounded outward.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.interval import point_bounds
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Affine, Input, Switch, Value
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix
from lipexact.numerics.rational import Numbers
from lipexact.problem.problem import check_domain
from lipexact.regions.affine import affine_forms, depends_on_free, pattern_at
from lipexact.sets.domains import Domain

_SAMPLES = 64
_FRACTIONS = 300_000  # that exact forms may take in all
_SUBSETS = 5_000  # of d kernels and sides, whose common points are computed in Fractions
_LISTED = 6  # findings of a kind that are spelled out in the text


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

    name: str
    size: int
    on: int
    off: int


@dataclass(frozen=True)
class Vanishing:
    """A neuron whose pre-activation is 0 on the whole domain (`point` is None), or around `point`, shape (d,)."""

    neuron: Neuron
    point: tuple[float, ...] | None

    def __str__(self) -> str:
        return f"{self.neuron} " + (
            "everywhere" if self.point is None else f"on a part of the domain{_at(self.point)}"
        )


@dataclass(frozen=True)
class Crossing:
    """Kernels that meet in a higher dimension than they may, in a `point` inside the domain, shape (d,), rounded."""

    neurons: tuple[Neuron, ...]
    dimension: int
    point: tuple[float, ...]

    def __str__(self) -> str:
        what = {0: "in a point", 1: "in a line"}.get(
            self.dimension, f"in dimension {self.dimension}"
        )
        return f"{_names(self.neurons)} meet {what}{_at(self.point)}"


@dataclass(frozen=True)
class PositionReport:
    """What :func:`~lipexact.api.general_position_report` found.

    Attributes
    ----------
    layers
        For each layer how many neurons have no kink in the domain: they play no role.
    vanishing
        Neurons whose pre-activation is 0 on a set with interior.
    coinciding
        Groups of neurons with the same kernel, which crosses the domain.
    crowded
        Kernels that meet in more than general position allows; of a coinciding group only the first one is named.
    undecided
        What may be wrong, but could not be decided.
    not_examined
        What was not looked at.
    """

    layers: tuple[Layer, ...]
    vanishing: tuple[Vanishing, ...]
    coinciding: tuple[tuple[Neuron, ...], ...]
    crowded: tuple[Crossing, ...]
    undecided: tuple[str, ...]
    not_examined: tuple[str, ...]

    @property
    def in_general_position(self) -> bool | None:
        """False: a violation is proven. True: there is none on the closed domain, proven. None: not decided."""
        if self.vanishing or self.coinciding or self.crowded:
            return False
        return None if self.undecided or self.not_examined else True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return {"in_general_position": self.in_general_position, **asdict(self)}

    def __str__(self) -> str:
        total = sum(layer.size for layer in self.layers)
        kinks = total - sum(layer.on + layer.off for layer in self.layers)
        answer = self.in_general_position
        lines = [
            f"General position: { {True: 'yes', False: 'no', None: 'not decided'}[answer] }.",
            f"{kinks} of {total} neurons may have a kink in the domain; the others play no role.",
            *_listed("Zero on a whole region", self.vanishing),
            *_listed("Same kernel", map(_names, self.coinciding)),
            *_listed("Too many kernels in one place", self.crowded),
        ]
        if answer is not None:
            effect = (
                "lose nothing by that here"
                if answer
                else "may overestimate here; lipexact's answer stays exact"
            )
            lines.append(
                f"Programs that let each neuron at zero choose its state, such as LipMIP, {effect}."
            )
        lines += _listed("Not decided", self.undecided)
        lines += _listed("Not looked at", self.not_examined)
        return "\n".join(lines)


def _listed(title: str, entries: Iterable[object]) -> list[str]:
    texts = [f"  {entry}" for entry in entries]
    more = [f"  ... and {len(texts) - _LISTED} more"] if len(texts) > _LISTED else []
    return [f"{title}:", *texts[:_LISTED], *more] if texts else []


def _names(neurons: Sequence[Neuron]) -> str:
    shown = ", ".join(map(str, neurons[:_LISTED]))
    return f"{shown} and {len(neurons) - _LISTED} more" if len(neurons) > _LISTED else shown


def _at(point: tuple[float, ...]) -> str:
    return f", at ({', '.join(f'{entry:.6g}' for entry in point)})" if len(point) <= 4 else ""


def position_report(network: Network, domain: Domain) -> PositionReport:
    """Which neurons coincide, vanish, or meet in more kernels than general position allows.

    It is decided as far as that is cheap: in most cases for networks with one hidden layer, two or three inputs and a
    few dozen neurons; where kernels of neurons cross that read neurons with a kink is not looked at.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        X.

    Returns
    -------
    PositionReport
        Its ``str`` is a plain text.

    Raises
    ------
    DomainError
        If the domain does not fit the network.

    Examples
    --------
    >>> from lipexact.sets.domains import Box
    >>> from lipexact.graph.ir import Graph
    >>> from lipexact.graph.lowering import relu
    >>> x = Input(1)
    >>> hidden = relu(Affine(((np.array([[1.0], [-1.0]]), x),), np.zeros(2)))
    >>> identity = Affine(((np.array([[1.0, -1.0]]), hidden),), np.zeros(1))
    >>> position_report(Network(Graph((x,), (identity,)), (1,), (1,)), Box([-1], [1])).in_general_position
    False
    """
    check_domain(network, domain)
    with np.errstate(all="ignore"):  # what overflows proves nothing
        return _Examination(network, domain).report()


class _Examination:
    def __init__(self, network: Network, domain: Domain) -> None:
        self.network, self.domain = network, domain
        bounds = bound_nodes(network.graph, {network.input: domain})
        self.nodes = [gate.x for gate in network.gates]
        self.pattern: Pattern = tuple(
            np.where(bounds[node][0] > 0, ON, np.where(bounds[node][1] < 0, OFF, FREE)).astype(
                np.int8
            )
            for node in self.nodes
        )
        self.names = [
            gate.name.removesuffix("_gate") or f"layer {k}" for k, gate in enumerate(network.gates)
        ]
        self.open = [
            Neuron(layer, i, self.names[layer])
            for layer, states in enumerate(self.pattern)
            for i in np.flatnonzero(states == FREE).tolist()
        ]
        bent = depends_on_free(network, self.pattern)
        self.bent = [neuron for neuron in self.open if bent[self.nodes[neuron.layer]][neuron.index]]
        self.left = _FRACTIONS
        # (w_1, ..., w_d, b) in Fractions, of neurons that are affine on the domain.
        self.kernels = self._forms(self.pattern, set(self.open).difference(self.bent))
        self.points = domain.sample(np.random.default_rng(0), _SAMPLES)
        self.values = evaluate(network.graph, {network.input: self.points})
        self.undecided: list[str] = []
        self.not_examined: list[str] = []

    def report(self) -> PositionReport:
        rows = self._rows()
        vanishing = [
            Vanishing(neuron, None) for neuron, (_, columns, _) in rows.items() if not columns
        ]
        coinciding = []
        for group in _proportional({neuron: row for neuron, row in rows.items() if row[1]}):
            if self._crosses(group[0]):
                coinciding.append(group)
            else:
                self.undecided.append(f"{_names(group)}: the same kernel, if it crosses the domain")
        left_out = {neuron for group in coinciding for neuron in group[1:]}.union(
            found.neuron for found in vanishing
        )
        kernels = {
            neuron: self.kernels[neuron] for neuron in sorted(self.kernels.keys() - left_out)
        }
        crowded = (
            _crowded(kernels, self.domain, self.undecided, self.not_examined) if kernels else []
        )
        if self.bent:
            self.not_examined.append(
                f"{len(self.bent)} neurons that read neurons with a kink: where their kernels, which bend, cross "
                "others, and whether they vanish on regions that no sample met"
            )
        if len(self.bent) + len(self.kernels) < len(self.open):
            self.not_examined.append(
                "where kernels cross: the network is too large for exact arithmetic"
            )
        if self.open and not self.domain.is_box:
            self.not_examined.append(
                "where kernels meet the border of the domain, which is not a box"
            )
        counts = [
            (states.size, int((states == ON).sum()), int((states == OFF).sum()))
            for states in self.pattern
        ]
        layers = tuple(Layer(name, *count) for name, count in zip(self.names, counts, strict=True))
        vanishing += self._vanishing_around_samples()
        doubts = tuple(self.undecided), tuple(self.not_examined)
        return PositionReport(layers, tuple(vanishing), tuple(coinciding), tuple(crowded), *doubts)

    def _forms(self, pattern: Pattern, neurons: Iterable[Neuron]) -> dict[Neuron, Numbers]:
        """Neurons under a pattern as (w_1, ..., w_d, b) in Fractions; none where that takes too many of these."""
        kept = {
            gate: int((states == ON).sum())
            for gate, states in zip(self.network.gates, pattern, strict=True)
        }
        for node in self.network.graph.nodes:
            for _, x in node.terms if isinstance(node, Affine) else ():
                used = (
                    kept[x.gate] if isinstance(x, Switch) else 0 if isinstance(x, Input) else x.size
                )
                self.left -= node.size * (x.size + used * self.domain.dim)
        if self.left < 0:
            return {}
        forms = affine_forms(self.network, pattern, exact=True)
        return {
            each: np.append(*(part[each.index] for part in forms[self.nodes[each.layer]]))
            for each in neurons
        }

    def _rows(self) -> dict[Neuron, _Row]:
        rows: dict[Neuron, _Row] = {}
        weights = [_weights(node) if isinstance(node, Affine) else None for node in self.nodes]
        for neuron in self.open:
            matrix = weights[neuron.layer]
            if neuron in self.kernels:
                columns = np.flatnonzero(self.kernels[neuron])
                rows[neuron] = None, tuple(columns.tolist()), self.kernels[neuron][columns]
            elif matrix is not None:
                part = slice(*matrix.indptr[neuron.index : neuron.index + 2])
                rows[neuron] = (
                    self.nodes[neuron.layer],
                    tuple(matrix.indices[part].tolist()),
                    matrix.data[part],
                )
        return rows

    def _crosses(self, neuron: Neuron) -> bool:
        """Whether it is proven to take both signs inside the domain."""
        node, i = self.nodes[neuron.layer], neuron.index
        if neuron in self.kernels:
            slope = self.kernels[neuron][:-1]
            scaled = (slope / (max(abs(slope)) or 1)).astype(np.float64)
            ends = self.domain.pull(self.domain.maximisers(np.array([scaled, -scaled])))
        else:
            ends = self.points[np.argsort(self.values[node][:, i])[[-1, 0]]]
        high, low = (
            point_bounds(self.network.graph.nodes, self.network.input, end)[node] for end in ends
        )
        return bool(high[0][i] > 0 > low[1][i] and (self.domain.margin(ends) > 0).all())

    def _vanishing_around_samples(self) -> list[Vanishing]:
        """Of neurons that read neurons with a kink, those that are 0 around a sampled point."""
        found: dict[Neuron, Vanishing] = {}
        for k, point in enumerate(self.points):
            suspects = [
                n
                for n in self.bent
                if n not in found and self.values[self.nodes[n.layer]][k, n.index] == 0
            ]
            pattern = pattern_at(self.network, point) if suspects else None
            if pattern is not None and self.domain.margin(point[None, :])[0] > 0:
                forms = self._forms(pattern, suspects)
                found |= {
                    each: Vanishing(each, tuple(point.tolist()))
                    for each in forms
                    if not any(forms[each])
                }
        return list(found.values())


# A combination of the entries of what a node reads (of the input where it is None) and of 1, without zeros.
_Row: TypeAlias = tuple[Value | None, tuple[int, ...], Numbers]


def _weights(node: Affine) -> Matrix:
    """All weights and the bias side by side."""
    matrix = sp.hstack(
        [*(sp.csr_array(w) for w, _ in node.terms), sp.csr_array(node.bias[:, None])], format="csr"
    )
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _proportional(rows: Mapping[Neuron, _Row]) -> list[tuple[Neuron, ...]]:
    """Groups of neurons whose rows are multiples of each other."""
    groups = [tuple(rows)]
    # Equal quotients of floats are rounded alike, so that floats separate most rows, and Fractions the rest.
    for convert in (np.asarray, _fractions):
        parts: dict[Hashable, list[Neuron]] = {}
        for group in groups:
            for neuron in group:
                node, columns, values = rows[neuron]
                numbers = convert(values)
                parts.setdefault(
                    (group[0], node, columns, *(numbers / numbers[0]).tolist()), []
                ).append(neuron)
        groups = [tuple(part) for part in parts.values() if len(part) > 1]
    return groups


# --- Crossings, in Fractions ---------------------------------------------------------------------------


def _crowded(
    kernels: Mapping[Neuron, Numbers], domain: Domain, undecided: list[str], not_examined: list[str]
) -> list[Crossing]:
    """Too many kernels in one place inside the domain; what else there may be goes to the two lists.

    Where dependent hyperplanes, sides included, meet in the closed box, they do so in a vertex, a point that d of
    the hyperplanes determine, with more than d of them through it.
    """
    neurons, rows = list(kernels), np.array(list(kernels.values()), dtype=object)
    n, d, low, high = len(rows), domain.dim, _fractions(domain.lower), _fractions(domain.upper)
    if math.comb(n + 2 * d, d) <= _SUBSETS:
        unit = _fractions(np.eye(d))
        points = list(
            _vertices([*rows, *np.column_stack([unit, -low]), *np.column_stack([unit, -high])], d)
        )
    else:
        not_examined.append(
            f"where the kernels of {n} neurons, affine on the domain, cross, but for a few points"
        )
        points = [tuple(_fractions(np.zeros(d))), tuple(_fractions(domain.centre))]
        if d < n <= _FRACTIONS / d**2:
            points += _vertices(list(_echelon(rows, d).values()), d)
    crossed: dict[tuple[Fraction, ...], frozenset[int]] = {}
    for point in set(points):
        if (low <= point).all() and (point <= high).all():
            zero = rows[:, :d] @ point + rows[:, d] == 0
            if zero.sum() + (low == point).sum() + (high == point).sum() > d:
                crossed[point] = frozenset(np.flatnonzero(zero).tolist())
    # Flats of dimension 1 or more have several vertices, on the border; the middle of these may be inside.
    groups = {a & b for a in set(crossed.values()) for b in set(crossed.values())}
    found: dict[frozenset[int], Crossing] = {}
    for group in sorted(groups, key=lambda group: (-len(group), sorted(group))):
        rank = len(_echelon(rows[sorted(group)], d))
        if rank < len(group) and not any(group <= other for other in found):
            shared = np.array([point for point, through in crossed.items() if group <= through])
            middle = shared.sum(axis=0) / len(shared)
            rounded = middle.astype(np.float64)
            if max(abs(middle - _fractions(rounded))) < Fraction(
                float(domain.margin(rounded[None, :])[0])
            ):
                found[group] = Crossing(
                    tuple(neurons[k] for k in sorted(group)), d - rank, tuple(rounded.tolist())
                )
    rest = {k for group in groups if not any(group <= other for other in found) for k in group}
    if rest:
        names = _names([neurons[k] for k in sorted(rest)])
        undecided.append(
            f"{names}: on the border of the domain, where their kernels touch it or meet in too many"
        )
    return list(found.values())


def _vertices(
    rows: Sequence[Numbers], d: int, pivots: _Echelon | None = None, start: int = 0
) -> Iterator[tuple[Fraction, ...]]:
    """The points that any d of the hyperplanes w x + b = 0 determine, whose rows are (w, b)."""
    pivots = pivots or {}
    if len(pivots) == d:
        yield tuple(-pivots[j][d] for j in range(d))
        return
    for k in range(start, len(rows) - d + len(pivots) + 1):  # as long as enough are left
        if len(extended := _extended(pivots, rows[k], d)) > len(pivots):
            yield from _vertices(rows, d, extended, k + 1)


_Echelon: TypeAlias = dict[int, Numbers]  # reduced rows by pivot column


def _echelon(rows: Iterable[Numbers], d: int) -> _Echelon:
    pivots: _Echelon = {}
    for row in rows:
        pivots = _extended(pivots, row, d) if len(pivots) < d else pivots
    return pivots


def _extended(pivots: _Echelon, row: Numbers, d: int) -> _Echelon:
    """With one more row, unless its first d entries depend on those of the others."""
    for column, above in pivots.items():
        row = row - row[column] * above if row[column] else row
    lead = next((j for j in range(d) if row[j]), None)
    if lead is None:
        return pivots
    row = row / row[lead]
    return {**{column: above - above[lead] * row for column, above in pivots.items()}, lead: row}


def _fractions(values: Numbers) -> Numbers:
    return np.asarray(np.vectorize(Fraction, otypes=[object])(values))
