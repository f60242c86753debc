"""Exact Lipschitz constants of small ReLU networks, by enumerating their linear regions.

The oracle of the test suite. It imports nothing of the package and takes plain weights
``[(W0, b0), ..., (WL, bL)]``, with a ReLU between consecutive layers, over a box that half-spaces
may cut.

Every number is exact. Floats are dyadic rationals, and ReLU commutes with positive scaling, so
the network is scaled to integers layer by layer. A region is a full-dimensional polytope that is
kept by its vertices, in homogeneous integer coordinates, each with the set of constraints tight
at it. A neuron is an affine form on such a polytope and splits it if and only if it is positive
at one vertex and negative at another; both parts then have interior. A form that is zero at all
vertices is zero on the region, and the neuron counts as off there. No tolerance occurs, so
networks that are not in general position (duplicated neurons, kinks through corners, small
integer weights) pose no problem.

Norms are "linf", "l1", "l2" or :class:`Polyhedral`; only where l2 occurs is a result rounded on
the way.

Meant for 1 to 4 inputs and about a dozen neurons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul, sub
from typing import Any

import numpy as np

Weights = Sequence[tuple[Any, Any]]
Pattern = tuple[tuple[bool, ...], ...]
Matrix = tuple[tuple[Fraction, ...], ...]
# Homogeneous: (x_1 w, ..., x_d w, w) with w > 0 is the point x.
Homogeneous = tuple[int, ...]
# The vertices of a full-dimensional polytope, each with its tight constraints as a bit mask.
Cell = list[tuple[Homogeneous, int]]
# An affine form a x + b as (a_1, ..., a_d, b).
Form = tuple[int, ...]
# (a, b) means a x <= b.
HalfSpace = tuple[Sequence[Any], Any]

_DUAL = {"linf": "l1", "l1": "linf", "l2": "l2"}


@dataclass(frozen=True)
class Region:
    """A full-dimensional polytope inside the domain, on which the network is jacobian x + offset.

    Attributes
    ----------
    pattern
        For each hidden layer, which neurons are on. Neurons that are zero on all of it are off.
    vertices
        The vertices of the (closed) region.
    """

    pattern: Pattern
    jacobian: Matrix
    offset: tuple[Fraction, ...]
    vertices: tuple[tuple[Fraction, ...], ...]

    @cached_property
    def point(self) -> tuple[Fraction, ...]:
        """The mean of the vertices: a point in the interior."""
        return tuple(
            sum(entries, Fraction(0)) / len(self.vertices)
            for entries in zip(*self.vertices, strict=True)
        )

    @cached_property
    def jacobian_float(self) -> np.ndarray:
        """The Jacobian, correctly rounded to float64."""
        return np.array([[float(entry) for entry in row] for row in self.jacobian])


@dataclass(frozen=True, eq=False)
class Polyhedral:
    """The norm whose unit ball is {v : H v <= 1}, or the hull of the rows of P.

    Attributes
    ----------
    halfspaces, vertices
        H or P, one of the two, exactly as its entries are; with every row its negative is a row.
        Rows may be redundant.
    """

    halfspaces: Any = None
    vertices: Any = None

    def __post_init__(self) -> None:
        if (self.halfspaces is None) == (self.vertices is None):
            raise ValueError("a polyhedral norm has either half-spaces or vertices")
        if {tuple(-entry for entry in row) for row in self._rows} != set(self._rows):
            raise ValueError("with every row, a polyhedral norm needs its negative")
        if self._basis is None:
            raise ValueError("the rows of a polyhedral norm must span the space")

    @cached_property
    def _rows(self) -> list[tuple[Fraction, ...]]:
        rows = self.vertices if self.halfspaces is None else self.halfspaces
        return sorted({tuple(_rational(entry) for entry in row) for row in rows})

    @cached_property
    def _basis(self) -> tuple[tuple[Fraction, ...], ...] | None:
        choices = itertools.combinations(self._rows, self.dimension)
        return next((chosen for chosen in choices if _solve(chosen, chosen[0]) is not None), None)

    @property
    def dimension(self) -> int:
        """The n of R^n."""
        return len(self._rows[0])

    @cached_property
    def polar(self) -> Polyhedral:
        """The dual norm."""
        return Polyhedral(halfspaces=self.vertices, vertices=self.halfspaces)

    @cached_property
    def corners(self) -> list[tuple[Fraction, ...]]:
        """Points of the unit ball that have it as their hull: all its vertices, and perhaps
        more.
        """
        if self.halfspaces is None:
            return self._rows
        # In coordinates z = B v, for independent rows B of H, the ball is the box [-1, 1]^n, cut by
        # the other rows.
        columns = tuple(zip(*self._basis, strict=True))
        cell = _box([-1] * self.dimension, [1] * self.dimension)
        for index, row in enumerate(self._rows):
            _, cell = _split(
                cell,
                _form(_solve(columns, row), 1),
                1 << (2 * self.dimension + index),
                self.dimension,
            )
        return sorted(tuple(_solve(self._basis, _point(vertex))) for vertex, _ in cell)


Norm = str | Polyhedral


def regions(
    weights: Weights,
    lower: Sequence[float],
    upper: Sequence[float],
    halfspaces: Iterable[HalfSpace] = (),
) -> list[Region]:
    """The linear regions whose interior meets the domain's, one for each activation pattern.

    Parameters
    ----------
    weights
        The layers (W, b), W of shape (rows, columns); floats, integers or fractions.
    lower, upper
        The box, with lower < upper in every entry.
    halfspaces
        Pairs (a, b) that cut the box to a x <= b.

    Raises
    ------
    ValueError
        If the box is flat, the half-spaces leave nothing of it with interior, or the shapes do not
        fit.
    """
    cells, scale, _ = _cells(weights, lower, upper, halfspaces)
    return [
        Region(
            pattern,
            tuple(tuple(Fraction(entry, scale) for entry in form[:-1]) for form in forms),
            tuple(Fraction(form[-1], scale) for form in forms),
            tuple(_point(vertex) for vertex, _ in cell),
        )
        for cell, forms, pattern in cells
    ]


def l1_ball_halfspaces(center: Sequence[float], radius: float) -> list[HalfSpace]:
    """The 2^d half-spaces of the l1 ball, as fractions."""
    exact, size = [_rational(entry) for entry in center], _rational(radius)
    return [
        (tuple(map(Fraction, signs)), sum(map(mul, signs, exact), size))
        for signs in itertools.product((-1, 1), repeat=len(exact))
    ]


def cross_functionals(count: int, label: int | None = None) -> list[list[int]]:
    """The differences e_i - e_j of `count` outputs: all with i < j, or all with i = label."""
    pairs = (
        itertools.combinations(range(count), 2)
        if label is None
        else ((label, j) for j in range(count))
    )
    return [[(k == i) - (k == j) for k in range(count)] for i, j in pairs if i != j]


def constant(
    found: Iterable[Region],
    functional: Sequence[Any] | None = None,
    input_norm: Norm = "linf",
    output_norm: Norm | None = None,
) -> float:
    """The Lipschitz constant, as the largest norm of a Jacobian over the regions.

    Parameters
    ----------
    found
        What :func:`regions` returned.
    functional
        With c given, the constant of c^T f; with several vectors, the largest over them and so over
        their hull; else the constant of f from `input_norm` to `output_norm`.
    input_norm, output_norm
        "linf", "l1", "l2" or a :class:`Polyhedral`; the output norm defaults to the input norm.

    Returns
    -------
    float
        Rounded once for the polyhedral norms; to a few units in the last place where l2 occurs.
    """
    jacobians = {region.jacobian for region in found}
    return float(
        max(_norm(jacobian, functional, input_norm, output_norm) for jacobian in jacobians)
    )


def operator_norm(jacobian: Matrix, input_norm: Norm, output_norm: Norm) -> Fraction | float:
    """max ||J v|| over ||v|| <= 1, at the corners of the input ball or of the output's dual
    ball.
    """
    columns = tuple(zip(*jacobian, strict=True))
    if input_norm == output_norm == "l2":
        return float(np.linalg.norm(np.array(jacobian, dtype=np.float64), 2))
    sides = [(jacobian, input_norm, output_norm), (columns, dual(output_norm), dual(input_norm))]
    matrix, inner, outer, corners = min(
        ((*side, _corners(side[1], len(side[0][0]))) for side in sides if side[1] != "l2"),
        key=lambda side: len(side[-1]),
    )
    images = (
        zip(*matrix, strict=True)
        if inner == "l1"
        else (_apply(matrix, corner) for corner in corners)
    )
    return max(vector_norm(image, outer) for image in images)


def vector_norm(vector: Iterable[Fraction], norm: Norm) -> Fraction | float:
    """The norm of a vector, exact unless it is l2."""
    if isinstance(norm, Polyhedral):
        entries = list(vector)
        return max(_apply(_corners(norm.polar, len(entries)), entries))
    sizes = [abs(entry) for entry in vector]
    if norm == "linf":
        return max(sizes)
    if norm == "l1":
        return sum(sizes, Fraction(0))
    if norm == "l2":
        return math.sqrt(sum(size * size for size in sizes))
    raise ValueError(f"unknown norm {norm!r}")


def dual(norm: Norm) -> Norm:
    """The norm max c u over ||u|| <= 1 of c."""
    if isinstance(norm, Polyhedral):
        return norm.polar
    if norm not in _DUAL:
        raise ValueError(f"unknown norm {norm!r}")
    return _DUAL[norm]


def robust_radius(
    weights: Weights,
    x: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    norm: Norm = "linf",
    halfspaces: Iterable[HalfSpace] = (),
) -> Fraction | float:
    """The distance from x to the nearest point where another output is at least the largest at x.

    Parameters
    ----------
    weights, lower, upper, halfspaces
        The network and the domain, as for :func:`regions`. The nearest point may lie on the border.
    x
        A point, inside the domain or not. Of equal outputs the first counts as the largest.
    norm
        "linf", "l1", "l2" or a :class:`Polyhedral`.

    Returns
    -------
    Fraction or float
        Exact; in l2 the square root of an exact number. Infinity where there is no such point.
    """
    start = [_rational(entry) for entry in x]
    outputs = trace(weights, start)[-1]
    label = outputs.index(max(outputs))
    cells, _, bit = _cells(weights, lower, upper, halfspaces)
    dimension, best = len(start), math.inf
    for cell, forms, _ in cells:
        for rival in (*forms[:label], *forms[label + 1 :]):
            margin = tuple(map(sub, rival, forms[label]))
            part, _ = _split(cell, margin, bit, dimension)
            # A cell that is nowhere beyond the decision border may still touch it, in a face.
            part = part or [
                (vertex, tight) for vertex, tight in cell if sum(map(mul, margin, vertex)) == 0
            ]
            if part and norm == "l2":
                steps = [list(map(sub, _point(vertex), start)) for vertex, _ in part]
                best = min(best, _squared_distance(steps))
            elif part:
                best = _distance(part, start, norm, bit << 1, best)
    return math.sqrt(best) if norm == "l2" else best


def trace(weights: Weights, x: Sequence[float]) -> list[list[Fraction]]:
    """The exact pre-activations of every layer at x; the last entry is f(x)."""
    activations = [_rational(entry) for entry in x]
    layers = []
    for matrix, bias in weights:
        rows, offsets = _exact(matrix, bias)
        values = [
            sum(map(mul, row, activations), offset)
            for row, offset in zip(rows, offsets, strict=True)
        ]
        layers.append(values)
        activations = [max(value, Fraction(0)) for value in values]
    return layers


def closed_patterns(
    weights: Weights,
    lower: Sequence[float],
    upper: Sequence[float],
    halfspaces: Iterable[HalfSpace] = (),
) -> set[Pattern]:
    """The patterns that satisfy z >= 0 (on) and z <= 0 (off) at some point of the closed domain.

    These are what a mixed-integer program sees when every ReLU at zero may choose its gate. The
    signs at an inner point of a face stay feasible at the vertices of that face, so the vertices
    of the regions suffice.
    """
    patterns = set()
    for vertex in {
        vertex
        for region in regions(weights, lower, upper, halfspaces)
        for vertex in region.vertices
    }:
        choices = [
            [(False, True) if value == 0 else (value > 0,) for value in values]
            for values in trace(weights, vertex)[:-1]
        ]
        widths = [len(choice) for choice in choices]
        for gates in itertools.product(*itertools.chain(*choices)):
            rest = iter(gates)
            patterns.add(tuple(tuple(itertools.islice(rest, width)) for width in widths))
    return patterns


def naive_constant(
    weights: Weights,
    lower: Sequence[float],
    upper: Sequence[float],
    functional: Sequence[Any] | None = None,
    input_norm: Norm = "linf",
    output_norm: Norm | None = None,
    halfspaces: Iterable[HalfSpace] = (),
) -> float:
    """The largest norm over :func:`closed_patterns`: an upper bound, exact in general position."""
    layers, scale = _integer_layers(weights)
    dimension = len(lower)
    jacobians = set()
    for pattern in closed_patterns(weights, lower, upper, halfspaces):
        forms = [tuple(int(i == j) for j in range(dimension)) for i in range(dimension)]
        for (rows, _), gates in zip(layers, (*pattern, None), strict=True):
            forms = _compose(rows, [0] * len(rows), forms, (0,) * dimension)
            if gates is not None:
                forms = [
                    form if gate else (0,) * dimension
                    for form, gate in zip(forms, gates, strict=True)
                ]
        jacobians.add(tuple(forms))
    exact = (
        tuple(tuple(Fraction(entry, scale) for entry in row) for row in jacobian)
        for jacobian in jacobians
    )
    return float(max(_norm(jacobian, functional, input_norm, output_norm) for jacobian in exact))


def _norm(
    jacobian: Matrix, functional: Sequence[Any] | None, input_norm: Norm, output_norm: Norm | None
) -> Fraction | float:
    if functional is None:
        return operator_norm(jacobian, input_norm, output_norm or input_norm)
    vectors = functional if np.ndim(functional) == 2 else [functional]
    if any(len(vector) != len(jacobian) for vector in vectors):
        raise ValueError("a functional has one entry for each output")
    columns = tuple(zip(*jacobian, strict=True))
    gradients = (_apply(columns, [_rational(entry) for entry in vector]) for vector in vectors)
    return max(vector_norm(gradient, dual(input_norm)) for gradient in gradients)


def _corners(norm: Norm, size: int) -> Sequence[tuple[Any, ...]]:
    """Points whose hull, with their negatives, is the unit ball of a norm that is not l2."""
    if isinstance(norm, Polyhedral):
        if norm.dimension != size:
            raise ValueError(
                f"a polyhedral norm of dimension {norm.dimension} met a vector of size {size}"
            )
        return norm.corners
    if norm == "l1":
        return [tuple(int(i == j) for j in range(size)) for i in range(size)]
    return [(1, *rest) for rest in itertools.product((1, -1), repeat=size - 1)]


def _distance(
    cell: Cell, start: list[Fraction], norm: Norm, bit: int, best: Fraction | float
) -> Fraction | float:
    """The smaller of `best` and the distance of a cell, or of a face of one, in a norm that is
    not l2.

    The norm is a maximum of linear forms. A form bounds the distance from below by its minimum
    over the vertices; where that does not settle it, two forms change places inside the cell,
    and it is split there.
    """
    half = [tuple(map(Fraction, corner)) for corner in _corners(dual(norm), len(start))]
    slopes = list({*half, *(tuple(-entry for entry in corner) for corner in half)})
    todo = [(cell, bit)]
    while todo:
        cell, bit = todo.pop()
        steps = [list(map(sub, _point(vertex), start)) for vertex, _ in cell]
        values = [_apply(steps, slope) for slope in slopes]
        tops = [max(column) for column in zip(*values, strict=True)]
        best = min(best, *tops)
        if max(map(min, values)) >= best:
            continue
        attained = [{i for i, top in enumerate(tops) if row[i] == top} for row in values]
        first = max(range(len(slopes)), key=lambda k: len(attained[k]))
        # It is the largest form at most vertices, so a form that is largest elsewhere is not so at
        # all of these.
        missing = next(i for i in range(len(tops)) if i not in attained[first])
        second = next(k for k in range(len(slopes)) if missing in attained[k])
        change = list(map(sub, slopes[first], slopes[second]))
        border = _form(change, sum(map(mul, change, start)))
        todo += [(part, bit << 1) for part in _split(cell, border, bit, len(start)) if part]
    return best


def _squared_distance(points: list[list[Fraction]]) -> Fraction:
    """The squared l2 distance from 0 to the hull of the points, by Wolfe's algorithm in exact
    arithmetic.
    """
    one = Fraction(1)
    chosen, shares = [min(points, key=lambda point: sum(map(mul, point, point)))], [one]
    while True:
        nearest = [sum(map(mul, shares, column)) for column in zip(*chosen, strict=True)]
        size = sum(map(mul, nearest, nearest))
        added = min(points, key=lambda point: sum(map(mul, point, nearest)))
        if sum(map(mul, added, nearest)) >= size:
            return size
        chosen, shares = [*chosen, added], [*shares, Fraction(0)]
        while True:
            # The point of least norm in the affine hull of the chosen ones, which are affinely
            # independent.
            system = [[*_apply(chosen, point), one] for point in chosen] + [
                [*[one] * len(chosen), Fraction(0)]
            ]
            target = _solve(system, [0] * len(chosen) + [1])[:-1]
            if min(target) > 0:
                shares = target
                break
            step = min(
                old / (old - new) for old, new in zip(shares, target, strict=True) if new <= 0
            )
            shares = [old + step * (new - old) for old, new in zip(shares, target, strict=True)]
            kept = [k for k, share in enumerate(shares) if share > 0]
            chosen, shares = [chosen[k] for k in kept], [shares[k] for k in kept]


def _solve(rows: Sequence[Sequence[Fraction]], right: Sequence[Any]) -> list[Fraction] | None:
    """The solution of a square system; None if it is singular."""
    system = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for column in range(len(system)):
        pivot = next((k for k in range(column, len(system)) if system[k][column]), None)
        if pivot is None:
            return None
        system[column], system[pivot] = system[pivot], system[column]
        top = system[column] = [entry / system[column][column] for entry in system[column]]
        for k, row in enumerate(system):
            if k != column and row[column]:
                system[k] = [
                    entry - row[column] * above for entry, above in zip(row, top, strict=True)
                ]
    return [row[-1] for row in system]


def _cells(
    weights: Weights,
    lower: Sequence[float],
    upper: Sequence[float],
    halfspaces: Iterable[HalfSpace],
) -> tuple[list[tuple[Cell, list[Form], Pattern]], int, int]:
    """The regions with the outputs as forms on them, the scale of these forms, and the next free
    constraint bit.
    """
    layers, scale = _integer_layers(weights)
    dimension = _check(weights, lower, upper)
    domain, bit = _box(lower, upper), 1 << (2 * dimension)
    for normal, offset in halfspaces:
        if len(normal) != dimension:
            raise ValueError("the shapes of the half-spaces do not fit")
        _, domain = _split(domain, _form(normal, offset), bit, dimension)
        if domain is None:
            raise ValueError("the half-spaces leave no interior of the box")
        bit <<= 1
    basis = [tuple(int(i == j) for j in range(dimension + 1)) for i in range(dimension + 1)]
    states: list[tuple[Cell, list[Form], Pattern]] = [(domain, basis[:dimension], ())]
    for rows, bias in layers[:-1]:
        reached = []
        for cell, incoming, pattern in states:
            parts: list[tuple[Cell, list[Form], tuple[bool, ...]]] = [(cell, [], ())]
            for neuron, form in enumerate(_compose(rows, bias, incoming, basis[dimension])):
                split = []
                for part, outgoing, gates in parts:
                    on, off = _split(part, form, bit << neuron, dimension)
                    if on is not None:
                        split.append((on, [*outgoing, form], (*gates, True)))
                    if off is not None:
                        split.append((off, [*outgoing, (0,) * (dimension + 1)], (*gates, False)))
                parts = split
            reached += [(part, outgoing, (*pattern, gates)) for part, outgoing, gates in parts]
        states = reached
        bit <<= len(rows)
    cells = [
        (cell, _compose(*layers[-1], incoming, basis[dimension]), pattern)
        for cell, incoming, pattern in states
    ]
    return cells, scale, bit


def _split(cell: Cell, form: Form, bit: int, dimension: int) -> tuple[Cell | None, Cell | None]:
    """The parts of the cell on which the form is positive and negative; None where there is no
    interior.

    Two vertices of a polytope are adjacent if and only if no third vertex is tight wherever both
    are.
    """
    divisor = math.gcd(*form) or 1
    reduced = [entry // divisor for entry in form]
    values = [sum(map(mul, reduced, vertex)) for vertex, _ in cell]
    if not any(value > 0 for value in values):
        return None, cell
    if not any(value < 0 for value in values):
        return cell, None
    valued = list(zip(cell, values, strict=True))
    border = [(vertex, tight | bit) for (vertex, tight), value in valued if value == 0]
    for (above, tight_above), high in valued:
        if high <= 0:
            continue
        for (below, tight_below), low in valued:
            if low >= 0:
                continue
            edge = tight_above & tight_below
            if (
                edge.bit_count() < dimension - 1
                or sum(edge & tight == edge for _, tight in cell) != 2
            ):
                continue
            crossing = [high * q - low * p for p, q in zip(above, below, strict=True)]
            divisor = math.gcd(*crossing)
            border.append((tuple(entry // divisor for entry in crossing), edge | bit))
    on = [vertex for vertex, value in valued if value > 0] + border
    off = [vertex for vertex, value in valued if value < 0] + border
    return on, off


def _form(normal: Sequence[Any], offset: Any) -> Form:
    """A positive multiple of normal x - offset."""
    exact = [*(_rational(entry) for entry in normal), -_rational(offset)]
    factor = math.lcm(*(entry.denominator for entry in exact))
    return tuple(int(entry * factor) for entry in exact)


def _point(vertex: Homogeneous) -> tuple[Fraction, ...]:
    return tuple(Fraction(entry, vertex[-1]) for entry in vertex[:-1])


def _box(lower: Sequence[float], upper: Sequence[float]) -> Cell:
    sides = [
        ((_rational(lo), 1 << (2 * i)), (_rational(hi), 2 << (2 * i)))
        for i, (lo, hi) in enumerate(zip(lower, upper, strict=True))
    ]
    cell = []
    for corner in itertools.product(*sides):
        weight = math.lcm(*(entry.denominator for entry, _ in corner))
        vertex = (*(int(entry * weight) for entry, _ in corner), weight)
        cell.append((vertex, sum(bit for _, bit in corner)))
    return cell


def _compose(
    rows: list[list[int]], bias: list[int], forms: Sequence[Form], one: Form
) -> list[Form]:
    """The forms rows @ forms + bias, where `one` is the form that is constantly 1."""
    return [
        tuple(
            sum(map(mul, row, entries)) + offset * constant_entry
            for entries, constant_entry in zip(zip(*forms, strict=True), one, strict=True)
        )
        for row, offset in zip(rows, bias, strict=True)
    ]


def _integer_layers(weights: Weights) -> tuple[list[tuple[list[list[int]], list[int]]], int]:
    """Integer layers whose values are those of the network times a positive scale; the scale at
    the end.
    """
    scale = 1
    layers = []
    for matrix, bias in weights:
        rows, offsets = _exact(matrix, bias)
        factor = math.lcm(*(entry.denominator for entry in itertools.chain(*rows, offsets)))
        scale *= factor
        integers = [[int(entry * factor) for entry in row] for row in rows]
        layers.append((integers, [int(entry * scale) for entry in offsets]))
    return layers, scale


def _exact(matrix: Any, bias: Any) -> tuple[list[list[Fraction]], list[Fraction]]:
    return [[_rational(entry) for entry in row] for row in matrix], [
        _rational(entry) for entry in bias
    ]


def _rational(entry: Any) -> Fraction:
    return Fraction(entry.item() if isinstance(entry, np.generic) else entry)


def _check(weights: Weights, lower: Sequence[float], upper: Sequence[float]) -> int:
    if len(lower) != len(upper) or not all(lo < hi for lo, hi in zip(lower, upper, strict=True)):
        raise ValueError("the box must have lower < upper in every entry")
    width = len(lower)
    for matrix, bias in weights:
        if len(matrix) != len(bias) or any(len(row) != width for row in matrix):
            raise ValueError("the shapes of the layers do not fit")
        width = len(bias)
    return len(lower)


def _apply(rows: Sequence[Sequence[Fraction]], vector: Sequence[Any]) -> list[Fraction]:
    return [sum(map(mul, row, vector), Fraction(0)) for row in rows]
