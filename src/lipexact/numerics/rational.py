"""Exact linear algebra: arrays of Fractions, Gaussian elimination, and the simplex method.

Every float is a rational number, so that a computation in Fractions on float data has no rounding
error at all. It is slow (about a million operations per second), and numerators and denominators
grow with every step; callers limit the size of what they ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lipexact.numerics import constants

# Arrays of floats, or of exact Fractions (dtype object).
Numbers: TypeAlias = npt.NDArray[Any]
# A reduced row echelon form: for each pivot column the row that has 1 there, and whose entries in
# the other pivot columns are 0.
Echelon: TypeAlias = dict[int, Numbers]


def to_fractions(values: npt.ArrayLike) -> Numbers:
    """Convert an array of floats or Fractions to an array of Fractions with the same values."""
    array = np.asarray(values)
    exact = np.empty(array.size, dtype=object)
    exact[:] = [Fraction(value) for value in array.ravel().tolist()]
    return exact.reshape(array.shape)


# --- Elimination ---------------------------------------------------------------------------------


def extend_echelon(echelon: Echelon, row: Numbers, width: int) -> Echelon:
    """Add a row to a reduced row echelon form.

    Parameters
    ----------
    echelon
        Rows of shape (n,) by pivot column.
    row
        Shape (n,), Fractions.
    width
        The pivot is looked for in the first `width` columns only.

    Returns
    -------
    Echelon
        With one row more; `echelon` itself if the row's first entries depend on those of its rows.
    """
    for column, above in echelon.items():
        row = row - row[column] * above if row[column] else row
    pivot = next((j for j in range(width) if row[j]), None)
    if pivot is None:
        return echelon
    row = row / row[pivot]
    reduced = {
        column: above - above[pivot] * row if above[pivot] else above
        for column, above in echelon.items()
    }
    return {**reduced, pivot: row}


def row_echelon(rows: Iterable[Numbers], width: int, *, max_rank: int | None = None) -> Echelon:
    """Reduce rows to echelon form by Gauss-Jordan elimination.

    Parameters
    ----------
    rows
        Each of shape (n,), Fractions.
    width
        Pivots are looked for in the first `width` columns only.
    max_rank
        The rank at which to stop; `width` by default. The rest of the rows is not looked at.

    Returns
    -------
    Echelon
        Its length is the rank of the rows' first `width` columns, or `max_rank` if that is less.

    Examples
    --------
    The rows (2, 4 | 6) and (1, 2 | 3) are multiples of each other; (1, 1 | 1) is not:

    >>> echelon = row_echelon(to_fractions([[2.0, 4.0, 6.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), 2)
    >>> {pivot: [int(entry) for entry in row] for pivot, row in echelon.items()}
    {0: [1, 0, -1], 1: [0, 1, 2]}
    """
    limit = width if max_rank is None else max_rank
    echelon: Echelon = {}
    for row in rows:
        if len(echelon) >= limit:
            break
        echelon = extend_echelon(echelon, row, width)
    return echelon


def kernel_vector(equations: Iterable[Numbers], guess: Numbers) -> Numbers:
    """Return an exact solution of homogeneous equations that is near an approximate one.

    The unknowns without a pivot keep their values in `guess`; the equations determine the others.

    Parameters
    ----------
    equations
        Rows a of a x = 0, each of shape (n,), Fractions.
    guess
        Shape (n,), Fractions: an approximate solution.

    Returns
    -------
    Numbers
        Shape (n,). It solves those equations that are not needed to make the rank n - 1; if there
        are more independent ones, only 0 solves them all, and the caller must check the result.

    Examples
    --------
    The pair (0.33, 1) nearly solves 3 x - y = 0. The second unknown is free and keeps its value:

    >>> solution = kernel_vector(to_fractions([[3.0, -1.0]]), to_fractions([0.33, 1.0]))
    >>> [str(entry) for entry in solution]
    ['1/3', '1']
    """
    size = guess.size
    echelon = row_echelon(equations, size, max_rank=max(size - 1, 1))
    free = [j for j in range(size) if j not in echelon]
    solution = guess.copy()
    for pivot, row in echelon.items():
        solution[pivot] = -sum((row[j] * guess[j] for j in free), Fraction(0))
    return solution


def hyperplane_intersections(rows: Sequence[Numbers], dim: int) -> Iterator[tuple[Fraction, ...]]:
    """Yield the points in which `dim` independent hyperplanes intersect, for all choices of these.

    Parameters
    ----------
    rows
        Hyperplanes w x + b = 0 as (w_1, ..., w_d, b), Fractions.
    dim
        d.

    Yields
    ------
    tuple of Fraction
        A point, once for each choice of hyperplanes that determines it.

    Examples
    --------
    The lines x = 1, y = 2 and x = 3, of which the first and the last one are parallel:

    >>> lines = to_fractions([[1.0, 0.0, -1.0], [0.0, 1.0, -2.0], [1.0, 0.0, -3.0]])
    >>> [tuple(int(entry) for entry in point) for point in hyperplane_intersections(lines, 2)]
    [(1, 2), (3, 2)]
    """
    yield from _extended_intersections(rows, dim, {}, 0)


def _extended_intersections(
    rows: Sequence[Numbers], dim: int, echelon: Echelon, start: int
) -> Iterator[tuple[Fraction, ...]]:
    """Yield the intersections of the hyperplanes in `echelon` with some from `start` on."""
    if len(echelon) == dim:
        yield tuple(-echelon[j][dim] for j in range(dim))
        return
    for k in range(start, len(rows) - dim + len(echelon) + 1):  # as long as enough rows are left
        if len(extended := extend_echelon(echelon, rows[k], dim)) > len(echelon):
            yield from _extended_intersections(rows, dim, extended, k + 1)


# --- Strict feasibility of linear inequalities on a box ------------------------------------------


def proves_infeasible(
    weights: Numbers, linear: Numbers, constant: Numbers, lower: Numbers, upper: Numbers
) -> bool:
    """Return True if multipliers show that no x of a box has linear x + constant > 0 in every row.

    This is the check of a Farkas certificate: if w >= 0, w is not 0 and
    sum_i w_i (G_i x + g_i) <= 0 on the box, then at each x at least one term is not positive. The
    largest value of that sum on the box is taken at one of its vertices, coordinate by coordinate.

    Parameters
    ----------
    weights
        w, shape (k,).
    linear, constant
        G and g, of shapes (k, d) and (k,).
    lower, upper
        The box, shape (d,) each.

    Examples
    --------
    No x of [0, 1] has x - 1/2 > 0 and 1/4 - x > 0: the sum of both is -1/4 everywhere. The first
    condition alone is not excluded, as x = 1 fulfils it.

    >>> linear, constant = to_fractions([[1.0], [-1.0]]), to_fractions([-0.5, 0.25])
    >>> box = to_fractions([0.0]), to_fractions([1.0])
    >>> proves_infeasible(to_fractions([1.0, 1.0]), linear, constant, *box)
    True
    >>> proves_infeasible(to_fractions([1.0, 0.0]), linear, constant, *box)
    False
    """
    if any(w < 0 for w in weights) or not any(weights):
        return False
    slopes = weights @ linear
    vertex = np.where(slopes > 0, upper, lower)
    return bool(slopes @ vertex + weights @ constant <= 0)


def strictly_feasible_point(
    linear: Numbers,
    constant: Numbers,
    lower: Numbers,
    upper: Numbers,
    *,
    max_pivots: int = constants.MAX_PIVOTS,
) -> tuple[Numbers | None, Numbers | None]:
    """Find a point of a box with linear x + constant > 0, or multipliers that exclude all points.

    The simplex method in Fractions, with dictionaries and Bland's rule (Chvatal, Linear
    Programming, 1983): it minimises the e for which linear x + constant + e >= 0 on the box, until
    e is negative.

    Parameters
    ----------
    linear, constant
        Shapes (k, d) and (k,), k > 0, Fractions.
    lower, upper
        The box, shape (d,) each, Fractions.
    max_pivots
        How many pivots to try.

    Returns
    -------
    point, multipliers
        Shapes (d,) and (k,); one of them is None, or both after `max_pivots`. At an optimum e >= 0
        the multipliers are its dual solution, which :func:`proves_infeasible` accepts.

    Examples
    --------
    The interval (1/4, 1/2) in [0, 1], then the conditions x > 1/2 and x < 1/4:

    >>> rows, box = to_fractions([[1.0], [-1.0]]), (to_fractions([0.0]), to_fractions([1.0]))
    >>> point, _ = strictly_feasible_point(rows, to_fractions([-0.25, 0.5]), *box)
    >>> [str(entry) for entry in point]
    ['3/8']
    >>> _, multipliers = strictly_feasible_point(rows, to_fractions([-0.5, 0.25]), *box)
    >>> [str(entry) for entry in multipliers]
    ['1/2', '1/2']
    """
    dictionary = _Dictionary(linear, constant, lower, upper)
    for _ in range(max_pivots):
        if dictionary.objective < 0:
            return dictionary.point(), None
        entering = dictionary.entering_column()
        if entering is None:  # optimal
            return None, dictionary.multipliers()
        dictionary.pivot(dictionary.leaving_row(entering), entering)
    return None, None


class _Dictionary:
    """A dictionary of the simplex method, which minimises e.

    The variables are y = x - lower with the numbers 0 to d - 1, e with the number d, then the
    slacks z = linear x + constant + e and s = upper - x. All but e are at least 0. At any time

        basic variable i = values[i] + sum_c rows[i][c] * nonbasic variable c
        e                = objective + sum_c costs[c] * nonbasic variable c

    with the nonbasic variables at 0. The first pivot makes e basic, and it stays so.
    """

    def __init__(self, linear: Numbers, constant: Numbers, lower: Numbers, upper: Numbers) -> None:
        count, dim = linear.shape
        one = Fraction(1)
        zero = Fraction(0)
        self.lower = lower
        self.count = count
        self.dim = dim
        self.values: list[Fraction] = [*(constant + linear @ lower), *(upper - lower)]
        self.rows: list[list[Fraction]] = [[*row, one] for row in linear.tolist()]
        self.rows += [[-one if i == j else zero for j in range(dim)] + [zero] for i in range(dim)]
        self.objective = zero
        self.costs = [zero] * dim + [one]
        self.nonbasic = list(range(dim + 1))
        self.basic = list(range(dim + 1, dim + 1 + count + dim))
        # The smallest slack leaves for e, so that all the others are at least 0.
        self.pivot(min(range(count), key=lambda i: self.values[i]), dim)

    def entering_column(self) -> int | None:
        """Return the column of the first variable whose increase makes e smaller, or None."""
        improving = (c for c in range(self.dim + 1) if self.costs[c] < 0)
        return min(improving, key=lambda c: self.nonbasic[c], default=None)

    def leaving_row(self, entering: int) -> int:
        """Return the row whose variable reaches 0 first as the entering one grows.

        There is one: the box is bounded, and so is e.
        """
        falling = [
            i for i, row in enumerate(self.rows) if row[entering] < 0 and self.basic[i] != self.dim
        ]
        return min(
            falling,
            key=lambda i: (self.values[i] / -self.rows[i][entering], self.basic[i]),
        )

    def pivot(self, leaving: int, entering: int) -> None:
        """Exchange the basic variable of a row with the nonbasic one of a column."""
        coefficient = self.rows[leaving][entering]
        solved = [-entry / coefficient for entry in self.rows[leaving]]
        solved[entering] = 1 / coefficient
        start = -self.values[leaving] / coefficient

        def substitute(row: list[Fraction]) -> list[Fraction]:
            factor = row[entering]
            kept = (0 if c == entering else entry for c, entry in enumerate(row))
            return [old + factor * new for old, new in zip(kept, solved, strict=True)]

        for i, row in enumerate(self.rows):
            if i != leaving and row[entering]:
                self.values[i] += row[entering] * start
                self.rows[i] = substitute(row)
        self.rows[leaving] = solved
        self.values[leaving] = start
        self.objective += self.costs[entering] * start
        self.costs = substitute(self.costs)
        self.nonbasic[entering], self.basic[leaving] = self.basic[leaving], self.nonbasic[entering]

    def point(self) -> Numbers:
        """Return x where all nonbasic variables are 0."""
        known = dict(zip(self.basic, self.values, strict=True))
        zero = Fraction(0)
        return np.array([self.lower[j] + known.get(j, zero) for j in range(self.dim)], dtype=object)

    def multipliers(self) -> Numbers:
        """Return the reduced costs of the slacks z: at an optimum, the dual solution."""
        prices = dict(zip(self.nonbasic, self.costs, strict=True))
        slacks = range(self.dim + 1, self.dim + 1 + self.count)
        return np.array([prices.get(variable, Fraction(0)) for variable in slacks], dtype=object)
