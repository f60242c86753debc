"""Exact Lipschitz constants of small ReLU networks, by enumerating their linear regions.

The oracle of the test suite. It imports nothing of the package and takes plain weights
``[(W0, b0), ..., (WL, bL)]``, with a ReLU between consecutive layers, over a box.

Every number is exact. Floats are dyadic rationals, and ReLU commutes with positive scaling, so the
network is scaled to integers layer by layer. A region is a full-dimensional polytope that is kept by
its vertices, in homogeneous integer coordinates, each with the set of constraints tight at it. A
neuron is an affine form on such a polytope and splits it if and only if it is positive at one vertex
and negative at another; both parts then have interior. A form that is zero at all vertices is zero
on the region, and the neuron counts as off there. No tolerance occurs, so networks that are not in
general position (duplicated neurons, kinks through corners, small integer weights) pose no problem.

Meant for 1 to 4 inputs and about a dozen neurons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul
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

_DUAL = {"linf": "l1", "l1": "linf", "l2": "l2"}


@dataclass(frozen=True)
class Region:
    """A full-dimensional polytope inside the box, on which the network is x -> jacobian x + offset.

    Attributes
    ----------
    pattern
        For each hidden layer, which neurons are on. Neurons that are zero on the whole region are off.
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
        return tuple(sum(entries, Fraction(0)) / len(self.vertices) for entries in zip(*self.vertices, strict=True))

    @cached_property
    def jacobian_float(self) -> np.ndarray:
        """The Jacobian, correctly rounded to float64."""
        return np.array([[float(entry) for entry in row] for row in self.jacobian])


def regions(weights: Weights, lower: Sequence[float], upper: Sequence[float]) -> list[Region]:
    """The linear regions whose interior meets the open box, one for each activation pattern.

    Parameters
    ----------
    weights
        The layers (W, b), W of shape (rows, columns); floats, integers or fractions.
    lower, upper
        The box, with lower < upper in every entry.

    Raises
    ------
    ValueError
        If the box is flat or the shapes do not fit.
    """
    layers, scale = _integer_layers(weights)
    dimension = _check(weights, lower, upper)
    basis = [tuple(int(i == j) for j in range(dimension + 1)) for i in range(dimension + 1)]
    states: list[tuple[Cell, list[Form], Pattern]] = [(_box(lower, upper), basis[:dimension], ())]
    bit = 1 << (2 * dimension)
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
    found = []
    for cell, incoming, pattern in states:
        forms = _compose(*layers[-1], incoming, basis[dimension])
        found.append(
            Region(
                pattern,
                tuple(tuple(Fraction(entry, scale) for entry in form[:-1]) for form in forms),
                tuple(Fraction(form[-1], scale) for form in forms),
                tuple(tuple(Fraction(entry, vertex[-1]) for entry in vertex[:-1]) for vertex, _ in cell),
            )
        )
    return found


def constant(
    found: Iterable[Region],
    functional: Sequence[float] | None = None,
    input_norm: str = "linf",
    output_norm: str | None = None,
) -> float:
    """The Lipschitz constant, as the largest norm of a Jacobian over the regions.

    Parameters
    ----------
    found
        What :func:`regions` returned.
    functional
        With c given, the constant of c^T f; else the one of f from `input_norm` to `output_norm`.
    input_norm, output_norm
        "linf", "l1" or "l2"; the output norm defaults to the input norm.

    Returns
    -------
    float
        Rounded once for the polyhedral norms; to a few units in the last place where l2 occurs.
    """
    jacobians = {region.jacobian for region in found}
    return float(max(_norm(jacobian, functional, input_norm, output_norm) for jacobian in jacobians))


def operator_norm(jacobian: Matrix, input_norm: str, output_norm: str) -> Fraction | float:
    """max ||J v|| over ||v|| <= 1, at the vertices of a unit ball where one is polyhedral."""
    columns = tuple(zip(*jacobian, strict=True))
    if input_norm == "l1":
        return max(vector_norm(column, output_norm) for column in columns)
    if output_norm == "linf":
        return max(vector_norm(row, _DUAL[input_norm]) for row in jacobian)
    if input_norm == "linf":
        return max(vector_norm(_apply(jacobian, signs), output_norm) for signs in _signs(len(columns)))
    if output_norm == "l1":
        return max(vector_norm(_apply(columns, signs), "l2") for signs in _signs(len(jacobian)))
    return float(np.linalg.norm(np.array(jacobian, dtype=np.float64), 2))


def vector_norm(vector: Iterable[Fraction], norm: str) -> Fraction | float:
    """The norm of a vector, exact unless it is l2."""
    sizes = [abs(entry) for entry in vector]
    if norm == "linf":
        return max(sizes)
    if norm == "l1":
        return sum(sizes, Fraction(0))
    if norm == "l2":
        return math.sqrt(sum(size * size for size in sizes))
    raise ValueError(f"unknown norm {norm!r}")


def trace(weights: Weights, x: Sequence[float]) -> list[list[Fraction]]:
    """The exact pre-activations of every layer at x; the last entry is f(x)."""
    activations = [_rational(entry) for entry in x]
    layers = []
    for matrix, bias in weights:
        rows, offsets = _exact(matrix, bias)
        values = [sum(map(mul, row, activations), offset) for row, offset in zip(rows, offsets, strict=True)]
        layers.append(values)
        activations = [max(value, Fraction(0)) for value in values]
    return layers


def closed_patterns(weights: Weights, lower: Sequence[float], upper: Sequence[float]) -> set[Pattern]:
    """The patterns that satisfy z >= 0 (on) and z <= 0 (off) at some point of the closed box.

    These are what a mixed-integer program sees when every ReLU at zero may choose its gate. The signs
    at an inner point of a face stay feasible at the vertices of that face, so the vertices of the
    regions suffice.
    """
    patterns = set()
    for vertex in {vertex for region in regions(weights, lower, upper) for vertex in region.vertices}:
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
    functional: Sequence[float] | None = None,
    input_norm: str = "linf",
    output_norm: str | None = None,
) -> float:
    """The largest norm over :func:`closed_patterns`: an upper bound, exact in general position."""
    layers, scale = _integer_layers(weights)
    dimension = len(lower)
    jacobians = set()
    for pattern in closed_patterns(weights, lower, upper):
        forms = [tuple(int(i == j) for j in range(dimension)) for i in range(dimension)]
        for (rows, _), gates in zip(layers, (*pattern, None), strict=True):
            forms = _compose(rows, [0] * len(rows), forms, (0,) * dimension)
            if gates is not None:
                forms = [form if gate else (0,) * dimension for form, gate in zip(forms, gates, strict=True)]
        jacobians.add(tuple(forms))
    exact = (tuple(tuple(Fraction(entry, scale) for entry in row) for row in jacobian) for jacobian in jacobians)
    return float(max(_norm(jacobian, functional, input_norm, output_norm) for jacobian in exact))


def _norm(
    jacobian: Matrix, functional: Sequence[float] | None, input_norm: str, output_norm: str | None
) -> Fraction | float:
    if functional is not None:
        gradient = _apply(tuple(zip(*jacobian, strict=True)), [_rational(entry) for entry in functional])
        return vector_norm(gradient, _DUAL[input_norm])
    return operator_norm(jacobian, input_norm, output_norm or input_norm)


def _split(cell: Cell, form: Form, bit: int, dimension: int) -> tuple[Cell | None, Cell | None]:
    """The parts of the cell on which the form is positive and negative; None where there is no interior.

    Two vertices of a polytope are adjacent if and only if no third vertex is tight wherever both are.
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
            if edge.bit_count() < dimension - 1 or sum(edge & tight == edge for _, tight in cell) != 2:
                continue
            crossing = [high * q - low * p for p, q in zip(above, below, strict=True)]
            divisor = math.gcd(*crossing)
            border.append((tuple(entry // divisor for entry in crossing), edge | bit))
    on = [vertex for vertex, value in valued if value > 0] + border
    off = [vertex for vertex, value in valued if value < 0] + border
    return on, off


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


def _compose(rows: list[list[int]], bias: list[int], forms: Sequence[Form], one: Form) -> list[Form]:
    """The forms rows @ forms + bias, where `one` is the form that is constantly 1."""
    return [
        tuple(
            sum(map(mul, row, entries)) + offset * constant_entry
            for entries, constant_entry in zip(zip(*forms, strict=True), one, strict=True)
        )
        for row, offset in zip(rows, bias, strict=True)
    ]


def _integer_layers(weights: Weights) -> tuple[list[tuple[list[list[int]], list[int]]], int]:
    """Integer layers whose values are those of the network times a positive scale; the scale at the end."""
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
    return [[_rational(entry) for entry in row] for row in matrix], [_rational(entry) for entry in bias]


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


def _signs(count: int) -> Iterable[tuple[int, ...]]:
    # Opposite vertices of a ball give the same norm.
    return ((1, *rest) for rest in itertools.product((1, -1), repeat=count - 1))
