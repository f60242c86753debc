"""Linear programs, solved by HiGHS in floating point; whoever needs certainty checks the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.numerics.arrays import Matrix, Vector


@dataclass(frozen=True, eq=False)
class System:
    """{y : lower <= y <= upper, rows y <= limits}.

    Attributes
    ----------
    lower, upper
        Of shape (n,), finite or not.
    rows, limits
        Of shape (k, n), sparse, and (k,).
    """

    lower: Vector
    upper: Vector
    rows: Matrix
    limits: Vector


class LinearProgram:
    """max w y over a system, for one w after the other; each starts where the last one ended."""

    def __init__(self, system: System) -> None:
        # In units of the box around a variable, or of how far the rows let it go, since tolerances are absolute.
        rows = sp.csr_array(system.rows, dtype=np.float64, copy=True)
        low, high = (
            np.where(np.isfinite(side), side, 0.0) for side in (system.lower, system.upper)
        )
        bounded = np.isfinite(system.lower) & np.isfinite(system.upper)
        self._offset = np.where(bounded, low / 2 + high / 2, 0.0)
        half = np.where(bounded, high / 2 - low / 2, np.abs(low + high))
        self._scale = np.where(half > 0, half, _reach(rows, system.limits))
        rows.data *= self._scale[rows.indices]
        self._sizes = np.asarray(abs(rows).sum(axis=1)).ravel()
        self._sizes = np.where(self._sizes > 0, self._sizes, 1.0)
        rows.data /= np.repeat(self._sizes, np.diff(rows.indptr))
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = system.lower.size, rows.shape[0]
        program.col_cost_ = np.zeros(system.lower.size)
        program.col_lower_ = (system.lower - self._offset) / self._scale
        program.col_upper_ = (system.upper - self._offset) / self._scale
        program.row_lower_ = np.full(rows.shape[0], -np.inf)
        program.row_upper_ = (system.limits - system.rows @ self._offset) / self._sizes
        matrix = program.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kRowwise
        matrix.start_, matrix.index_, matrix.value_ = rows.indptr, rows.indices, rows.data
        self._cuts = 0
        self._columns = np.arange(system.lower.size, dtype=np.int32)
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.setOptionValue("output_flag", False)
        self._highs.passModel(program)

    def cut(self, linear: Vector, constant: Vector) -> None:
        """Ask for linear y + constant >= 0 besides, in the first coordinates of y; in place of the cuts before."""
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
        """An optimal point and the multipliers of the rows and cuts, all at least 0; None where HiGHS finds none.

        Weights of fewer entries than the system has variables are those of the first ones.

        Both are right up to HiGHS's tolerance of 1e-7, relative to the size of the system and of the weights.
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


def _reach(rows: Matrix, limits: Vector) -> Vector:
    """About how far each variable can go, by the rows in which it counts."""
    entries = abs(rows.tocoo())
    largest = np.zeros(rows.shape[0])
    np.maximum.at(largest, entries.row, entries.data)
    counts = entries.data > 1e-6 * largest[entries.row]
    far = np.zeros(rows.shape[1])
    np.maximum.at(
        far, entries.col[counts], np.abs(limits)[entries.row[counts]] / entries.data[counts]
    )
    return np.where((far > 0) & np.isfinite(far), far, 1.0)


@dataclass(frozen=True, eq=False)
class Slack:
    """What :func:`largest_slack` found.

    Attributes
    ----------
    point
        In [-1, 1]^n.
    slack
        t: every form is at least t times the sum of its absolute slopes there.
    weights
        Multipliers of the forms up to a common factor, at least 0; where `slack` <= 0 their combination is nowhere
        positive.
    cancelled
        The coordinates in which the weighted forms add up to nothing but rounding.
    """

    point: Vector
    slack: float
    weights: Vector
    cancelled: npt.NDArray[np.bool_]


def largest_slack(linear: Matrix, constant: Vector) -> Slack | None:
    """max t with G_i y + g_i >= t |G_i|_1 for all i, on y in [-1, 1]^n and t <= 1.

    Parameters
    ----------
    linear, constant
        G of shape (k, n), dense or sparse, and g of shape (k,).

    Returns
    -------
    Slack or None
        None where HiGHS fails.
    """
    count, n = linear.shape
    if count == 0:
        return Slack(np.zeros(n), 1.0, np.zeros(0), np.zeros(n, dtype=bool))
    size = np.asarray(abs(linear).sum(axis=1)).ravel()
    size = np.where(size > 0, size, np.where(constant != 0, np.abs(constant), 1.0))
    scaled = sp.csr_array(linear, dtype=np.float64, copy=True)
    scaled.data /= np.repeat(size, np.diff(scaled.indptr))
    system = System(
        np.append(np.full(n, -1.0), -np.inf),
        np.append(np.ones(n), 1.0),
        sp.hstack([-scaled, np.ones((count, 1))], format="csr"),
        constant / size,
    )
    found = LinearProgram(system).maximise(np.append(np.zeros(n), 1.0))
    if found is None:
        return None
    point, weights = np.clip(found[0][:n], -1.0, 1.0), found[1] * (size.min() / size)
    cancelled = np.abs(weights @ linear) <= 1e-9 * (weights @ abs(linear))
    return Slack(point, float(found[0][n]), weights, np.asarray(cancelled))
