"""Linear programs, solved by HiGHS in floating point.

Callers that need certainty check the solution, or use its multipliers by weak duality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.numerics import constants
from lipexact.numerics.arrays import Matrix, Vector


@dataclass(frozen=True, eq=False)
class System:
    """The polyhedron {y : lower <= y <= upper, rows y <= limits}.

    Attributes
    ----------
    lower, upper
        Shape (n,); entries may be infinite.
    rows, limits
        Shapes (k, n), sparse, and (k,).
    """

    lower: Vector
    upper: Vector
    rows: Matrix
    limits: Vector


class LinearProgram:
    """max w y over a system, for one w after the other; each solve starts where the last one ended.

    Variables and rows are scaled, since the tolerances of HiGHS are absolute: a variable by half
    the width of its box, or by how far the rows let it go, and a row by the sum of its entries.
    """

    def __init__(self, system: System) -> None:
        rows = sp.csr_array(system.rows, dtype=np.float64, copy=True)
        self._offset, self._scale = _units(system, rows)
        rows.data *= self._scale[rows.indices]
        self._sizes = np.asarray(abs(rows).sum(axis=1)).ravel()
        self._sizes = np.where(self._sizes > 0, self._sizes, 1.0)
        rows.data /= np.repeat(self._sizes, np.diff(rows.indptr))
        self._cuts = 0
        self._columns = np.arange(system.lower.size, dtype=np.int32)
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.setOptionValue("output_flag", False)
        self._highs.passModel(self._model(system, rows))

    def _model(self, system: System, rows: Matrix) -> highspy.HighsLp:
        """Return the scaled program in HiGHS's terms, without an objective."""
        model = highspy.HighsLp()
        model.num_col_ = system.lower.size
        model.num_row_ = rows.shape[0]
        model.col_cost_ = np.zeros(system.lower.size)
        model.col_lower_ = (system.lower - self._offset) / self._scale
        model.col_upper_ = (system.upper - self._offset) / self._scale
        model.row_lower_ = np.full(rows.shape[0], -np.inf)
        model.row_upper_ = (system.limits - system.rows @ self._offset) / self._sizes
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kRowwise
        matrix.start_ = rows.indptr
        matrix.index_ = rows.indices
        matrix.value_ = rows.data
        return model

    def cut(self, linear: Vector, constant: Vector) -> None:
        """Replace the cuts by linear y + constant >= 0, in the first coordinates of y.

        Parameters
        ----------
        linear, constant
            Shapes (k, d) and (k,).
        """
        if self._cuts:
            rows = self._sizes.size
            self._highs.deleteRows(self._cuts, np.arange(rows - self._cuts, rows, dtype=np.int32))
            self._sizes = self._sizes[: rows - self._cuts]
        self._cuts, d = linear.shape
        if not self._cuts:
            return
        scaled = -linear * self._scale[:d]
        sizes = np.abs(scaled).sum(axis=1, keepdims=True)
        sizes = np.where(sizes > 0, sizes, 1.0)
        limits = (constant + linear @ self._offset[:d]) / sizes[:, 0]
        starts = np.arange(0, scaled.size, d, dtype=np.int32)
        columns = np.tile(np.arange(d, dtype=np.int32), self._cuts)
        free = np.full(self._cuts, -np.inf)
        self._highs.addRows(
            self._cuts, free, limits, scaled.size, starts, columns, (scaled / sizes).ravel()
        )
        self._sizes = np.append(self._sizes, sizes)

    def maximise(self, weights: Vector) -> tuple[Vector, Vector] | None:
        """Maximise w y.

        Parameters
        ----------
        weights
            w, of shape (n,), or shorter: the weights of the other variables are 0.

        Returns
        -------
        (point, multipliers) or None
            An optimal y of shape (n,), and the multipliers of the rows and of the cuts, all at
            least 0. None where HiGHS finds no optimum. Both are right up to HiGHS's tolerance of
            1e-7, relative to the size of the system and of the weights.

        Examples
        --------
        On {y in [0, 1]^2 : y_1 + y_2 <= 3/2}, y_2 may be 1/2 only. The multiplier of the row is 1,
        since 2 y_1 + y_2 = (y_1 + y_2) + y_1 <= 3/2 + 1:

        >>> row = sp.csr_array([[1.0, 1.0]])
        >>> program = LinearProgram(System(np.zeros(2), np.ones(2), row, np.array([1.5])))
        >>> point, multipliers = program.maximise(np.array([2.0, 1.0]))
        >>> point.tolist(), multipliers.tolist()
        ([1.0, 0.5], [1.0])
        """
        costs = np.zeros(self._columns.size)
        costs[: len(weights)] = weights * self._scale[: len(weights)]
        size = float(np.abs(costs).max(initial=0.0)) or 1.0
        self._highs.changeColsCost(self._columns.size, self._columns, -costs / size)
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._highs.getSolution()
        point = self._offset + self._scale * np.array(solution.col_value)
        return point, np.maximum(-np.array(solution.row_dual), 0.0) * (size / self._sizes)


def _units(system: System, rows: Matrix) -> tuple[Vector, Vector]:
    """Return the offset and the scale of each variable, of shape (n,) each."""
    low, high = (np.where(np.isfinite(side), side, 0.0) for side in (system.lower, system.upper))
    bounded = np.isfinite(system.lower) & np.isfinite(system.upper)
    offset = np.where(bounded, low / 2 + high / 2, 0.0)
    half = np.where(bounded, high / 2 - low / 2, np.abs(low + high))
    return offset, np.where(half > 0, half, _reach(rows, system.limits))


def _reach(rows: Matrix, limits: Vector) -> Vector:
    """Estimate how far each variable can go, by the rows in which its entry is not negligible."""
    entries = abs(rows.tocoo())
    largest = np.zeros(rows.shape[0])
    np.maximum.at(largest, entries.row, entries.data)
    counts = entries.data > constants.NEGLIGIBLE_SHARE * largest[entries.row]
    far = np.zeros(rows.shape[1])
    np.maximum.at(
        far, entries.col[counts], np.abs(limits)[entries.row[counts]] / entries.data[counts]
    )
    return np.where((far > 0) & np.isfinite(far), far, 1.0)


@dataclass(frozen=True, eq=False)
class Slack:
    """A point where all forms are large, and the multipliers that bound how large they can be.

    Attributes
    ----------
    point
        In [-1, 1]^n.
    slack
        t: at the point, every form is at least t times the sum of its absolute coefficients.
    weights
        Multipliers of the forms up to a common factor, at least 0. Where `slack` <= 0 the weighted
        sum of the forms is nowhere positive.
    cancelled
        Mask of the coordinates where the weighted coefficients cancel up to rounding.
    """

    point: Vector
    slack: float
    weights: Vector
    cancelled: npt.NDArray[np.bool_]


def largest_slack(linear: Matrix, constant: Vector) -> Slack | None:
    """Maximise t <= 1 so that G_i y + g_i >= t |G_i|_1 for all i, over y in [-1, 1]^n.

    Parameters
    ----------
    linear, constant
        G of shape (k, n), dense or sparse, and g of shape (k,).

    Returns
    -------
    Slack or None
        None where HiGHS fails.

    Examples
    --------
    The forms y and 1/2 - y are equal at y = 1/4:

    >>> optimum = largest_slack(np.array([[1.0], [-1.0]]), np.array([0.0, 0.5]))
    >>> optimum.point.tolist(), optimum.slack, optimum.weights.tolist()
    ([0.25], 0.25, [0.5, 0.5])
    """
    count, n = linear.shape
    if count == 0:
        return Slack(np.zeros(n), 1.0, np.zeros(0), np.zeros(n, dtype=bool))
    size = np.asarray(abs(linear).sum(axis=1)).ravel()
    size = np.where(size > 0, size, np.where(constant != 0, np.abs(constant), 1.0))
    scaled = sp.csr_array(linear, dtype=np.float64, copy=True)
    scaled.data /= np.repeat(size, np.diff(scaled.indptr))
    with np.errstate(over="ignore"):  # a limit that overflows is none
        limits = constant / size
    system = System(
        np.append(np.full(n, -1.0), -np.inf),
        np.append(np.ones(n), 1.0),
        sp.hstack([-scaled, np.ones((count, 1))], format="csr"),
        limits,
    )
    optimum = LinearProgram(system).maximise(np.append(np.zeros(n), 1.0))
    if optimum is None:
        return None
    solution, multipliers = optimum
    point = np.clip(solution[:n], -1.0, 1.0)
    weights = multipliers * (size.min() / size)
    cancelled = np.abs(weights @ linear) <= constants.CANCELLED_SHARE * (weights @ abs(linear))
    return Slack(point, float(solution[n]), weights, np.asarray(cancelled))
