"""The corners of domains: checks of what users give, and the bounding boxes of polytopes."""

from __future__ import annotations

import numbers

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import DomainError
from lipexact.numerics.arrays import Vector, floats
from lipexact.numerics.lp import LinearProgram, System
from lipexact.numerics.rounding import TINY, gamma, up

# Differences of corners, and their products with weights, must not overflow.
MAX_HALF_WIDTH = 2.0**1000
# The bounding box of a polytope takes 1 / (1 - residual): rounding may not come near 1.
MAX_RESIDUAL = 0.5


def check_corners(low: Vector, high: Vector, what: str) -> None:
    """Raise a DomainError if a box is too wide, empty or flat."""
    if not (np.abs(np.subtract(high / 2, low / 2)) < MAX_HALF_WIDTH).all():
        raise DomainError(f"{what} is too wide for floating-point arithmetic; scale the inputs")
    if (low > high).any():
        index = int(np.argmax(low > high))
        raise DomainError(
            f"{what} is empty: lower {low.flat[index]} > upper {high.flat[index]} "
            f"in coordinate {index}"
        )
    if (low == high).any():
        index = int(np.argmax(low == high))
        raise DomainError(
            f"{what} is flat in coordinate {index} (lower = upper = {low.flat[index]}): a set "
            "without interior has no Lipschitz constant; widen it, or fix that input to a constant "
            "in the network"
        )


def check_dimension(d: int, what: str) -> int:
    """Return a positive integer as an int, or raise a DomainError."""
    if isinstance(d, bool) or not isinstance(d, numbers.Integral) or d < 1:
        raise DomainError(f"{what} must be a positive integer, not {d!r}")
    return int(d)


def broadcast_corner(values: npt.ArrayLike | None, d: int, default: float, what: str) -> Vector:
    """Return a corner of shape (d,) from a number, from an array, or from the default."""
    corner = np.full(d, default) if values is None else floats(values, what, DomainError).ravel()
    if corner.size not in (1, d):
        raise DomainError(f"{what} has {corner.size} entries where A has {d} columns")
    return np.broadcast_to(corner, (d,)).copy()


def check_finite(array: Vector, what: str) -> Vector:
    """Return the array, or raise a DomainError if an entry is infinite."""
    if not np.isfinite(array).all():
        raise DomainError(
            f"{what} is infinite in coordinate {np.argmin(np.isfinite(array))}: "
            "the method needs bounded inputs; give finite limits"
        )
    return array


def bounding_box(
    lower: Vector, upper: Vector, rows: Vector, limits: Vector
) -> tuple[Vector, Vector]:
    """Return the corners of {x : lower <= x <= upper, rows x <= limits}, rounded outward.

    With multipliers mu >= 0 of all inequalities A x <= b, every point of the polytope has
    x_i <= mu b + r x for the residual r = e_i - mu A, which is not 0 because of rounding.
    So |x|_inf <= max |mu b| / (1 - max |r|_1), and with that r x can be bounded.

    Parameters
    ----------
    lower, upper
        Shape (d,); infinite where the inequalities imply the corner.
    rows, limits
        Shapes (k, d) and (k,).

    Raises
    ------
    DomainError
        If the polytope is unbounded or empty, or too thin for floating-point numbers.

    Examples
    --------
    On {x >= 0 : 2 x <= 1} the multipliers of x are (1/2, 0) and those of -x are (0, 1):

    >>> low, high = bounding_box(np.zeros(1), np.full(1, np.inf), np.array([[2.0]]), np.ones(1))
    >>> high.round(9)
    array([0.5])
    """
    d = lower.size
    below = np.isfinite(lower)
    above = np.isfinite(upper)
    sides = [*np.flatnonzero(above), *np.flatnonzero(below)]
    signs = np.repeat([1.0, -1.0], [int(above.sum()), int(below.sum())])
    matrix = np.vstack([rows, signs[:, None] * np.eye(d)[sides]])
    right = np.concatenate([limits, upper[above], -lower[below]])
    bounds, residuals = _dual_bounds(matrix, right)
    if residuals.max() > MAX_RESIDUAL:
        raise DomainError(
            "the polytope is too thin or too long for floating-point bounds; give lower= and upper="
        )
    largest = max(np.abs(bounds).max() / (1 - residuals.max()) * (1 + 1e-9), TINY)
    bounds = up(bounds + residuals * largest, np.abs(bounds) + largest, 2) + TINY * (1 + largest)
    return np.maximum(lower, -bounds[d:]), np.minimum(upper, bounds[:d])


def _dual_bounds(matrix: Vector, right: Vector) -> tuple[Vector, Vector]:
    """Return mu b and |r|_1 for the maxima of x_1, ..., x_d, -x_1, ..., -x_d; shape (2d,) each."""
    d = matrix.shape[1]
    program = LinearProgram(
        System(np.full(d, -np.inf), np.full(d, np.inf), sp.csr_array(matrix), right)
    )
    bounds = np.zeros(2 * d)
    residuals = np.zeros(2 * d)
    for k in range(2 * d):
        goal = np.eye(1, d, k % d)[0] * (1.0 if k < d else -1.0)
        optimum = program.maximise(goal)
        if optimum is None:
            raise DomainError(
                f"the polytope is empty, or unbounded in coordinate {k % d}: the method needs "
                "bounded inputs; add limits by lower= and upper="
            )
        duals = optimum[1]
        bounds[k] = up(duals @ right, duals @ np.abs(right), right.size)
        error = gamma(right.size + 2) * (np.abs(goal) + duals @ np.abs(matrix))
        residuals[k] = (np.abs(goal - duals @ matrix) + error).sum() * (1 + gamma(2 * d))
    return bounds, residuals
