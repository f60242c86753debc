"""Upper bounds of the length of a sum of vectors with free signs, by semidefinite relaxation.

max{s^T K s : |s_i| <= 1} <= lambda_max(D^-1/2 K D^-1/2) sum_i D_i for a matrix K and any D_i > 0:
Shor's relaxation, by its dual. With the best D that is at most pi / 2 times the maximum if K is
positive semidefinite (Nesterov, 1998). Good multipliers D come from a few steps of the mixing
method for the primal problem (Wang, Chang and Kolter, 2017). The same holds for max s^T M t over
two vectors of signs (Grothendieck; Alon and Naor, SIAM J. Comput. 35, 2006).

Any multipliers give a bound, so that nothing here but the last step, the spectral norm, has to be
accurate. The functions for certificates return the multipliers instead: the checker proves the
bound again, in exact arithmetic.

The mixing method gives each sign a unit vector, and turns each vector v_i towards the sum of
K_ij v_j. The lengths of these sums are the multipliers. For two equal rows of length 1, K is
[[1, 1], [1, 1]], both vectors are equal, and the multipliers are 2 and 2. D^-1/2 K D^-1/2 is
[[1/2, 1/2], [1/2, 1/2]], whose largest eigenvalue is 1, and the bound of |m_1 +- m_2|^2 is 4.
"""

from __future__ import annotations

import numpy as np

from lipexact.numerics import constants
from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import gamma
from lipexact.numerics.spectral import pad_scaled, scale_stacks, weighted_norms


def euclidean_sums(rows: Vector) -> tuple[Vector, Vector]:
    """Bound max |sum_i s_i m_i|_2 over s in [-1, 1]^k from above.

    Parameters
    ----------
    rows
        Stacks of the m_i, shape (b, k, n).

    Returns
    -------
    upper, shares
        Shapes (b,) and (b, k): the bounds, and how much each row adds to them.

    Examples
    --------
    >>> upper, shares = euclidean_sums(np.array([[[1.0, 0.0], [1.0, 0.0]]]))
    >>> upper.round(9), shares.round(9)
    (array([2.]), array([[1., 1.]]))
    """
    if not np.isfinite(rows).all():
        return _unbounded(rows)
    unit, size = scale_stacks(rows)
    gram = unit @ unit.swapaxes(1, 2)
    own = np.einsum("bkk->bk", gram)
    vectors = _normalised(_compressed(unit))
    for _ in range(constants.MIXING_STEPS):
        pulled = gram @ vectors
        multipliers = np.maximum(np.linalg.norm(pulled, axis=2), own)
        vectors = _normalised(pulled)
    total = weighted_norms(_divided(unit, multipliers, 1), multipliers.sum(axis=1))
    # The pad of the triangle inequality's bound: half of the n roundings of a square, the root, and
    # those of the sum.
    triangle = np.sqrt(own).sum(axis=1) * (1 + gamma(sum(rows.shape[1:])))
    return pad_scaled(np.minimum(total, triangle) * size), multipliers * size[:, None]


def absolute_sums(rows: Vector) -> tuple[Vector, Vector]:
    """Bound max |sum_i s_i m_i|_1 over s in [-1, 1]^k from above: see :func:`euclidean_sums`."""
    if not np.isfinite(rows).all():
        return _unbounded(rows)
    unit, size = scale_stacks(rows)
    triangle = np.abs(unit).sum(axis=(1, 2)) * (1 + gamma(rows[0].size))
    own, others = _mixed_signs(unit, _compressed(unit))
    scaled = _divided(_divided(unit, own, 1), others, 2)
    total = weighted_norms(scaled, own.sum(axis=1) * others.sum(axis=1))
    return pad_scaled(np.minimum(total, triangle) * size), own * size[:, None]


def euclidean_multipliers(rows: Vector) -> Vector:
    """Return multipliers D for a certificate of max |sum_i s_i m_i|_2.

    The matrix D - M M^T is positive semidefinite, as far as floats can tell, so that the maximum is
    at most the root of the sum of D.

    Parameters
    ----------
    rows
        M, of shape (k, n), with an entry other than 0.

    Returns
    -------
    Vector
        Shape (k,).

    Examples
    --------
    >>> euclidean_multipliers(np.array([[1.0, 0.0], [1.0, 0.0]])).round(6)
    array([2., 2.])
    """
    size = float(np.abs(rows).max())
    unit = rows / size
    own = np.abs(unit).sum(axis=1)
    vectors = _normalised(unit[None])[0]
    for _ in range(constants.MIXING_STEPS):
        pulled = unit @ (unit.T @ vectors)
        own = np.maximum(np.linalg.norm(pulled, axis=1), constants.MIN_CERTIFICATE_MULTIPLIER * own)
        vectors = _normalised(pulled[None])[0]
    top = np.linalg.norm(unit / np.sqrt(own)[:, None], 2) ** 2
    return np.asarray(own * top * (1 + constants.CERTIFICATE_MARGIN) * size**2)


def absolute_multipliers(rows: Vector) -> tuple[Vector, Vector]:
    """Return multipliers D and E for a certificate of max |sum_i s_i m_i|_1.

    The matrix D - M E M^T is positive semidefinite, as far as floats can tell, so that the maximum
    is at most half of the sum of D and of E^-1. E has few binary digits, so that products with it
    are short numbers.

    Parameters
    ----------
    rows
        M, of shape (k, n), with an entry other than 0.

    Returns
    -------
    own, inverse
        D and E, of shapes (k,) and (n,).

    Examples
    --------
    The sum of (1, 0) and (1, 0) has length 2, and that is half of 1 + 1 + 2 + (almost) 0:

    >>> own, inverse = absolute_multipliers(np.array([[1.0, 0.0], [1.0, 0.0]]))
    >>> round(float(own.sum() + (1 / inverse).sum()) / 2, 3)
    2.0
    """
    unit = rows / float(np.abs(rows).max())
    stacked_own, stacked_others = _mixed_signs(unit[None], unit[None])
    own = stacked_own[0]
    others = stacked_others[0]
    others = np.where(others > 0, others, 1e-9 * own.max())
    top = np.linalg.norm(rows / np.sqrt(own)[:, None] / np.sqrt(others), 2)
    # With this factor both sums are equal.
    inverse = _short(np.sqrt(others.sum() / own.sum()) / (top * others))
    top = np.linalg.norm(rows / np.sqrt(own)[:, None] * np.sqrt(inverse), 2) ** 2
    return np.asarray(own * (top * (1 + constants.CERTIFICATE_MARGIN))), inverse


def _mixed_signs(unit: Vector, start: Vector) -> tuple[Vector, Vector]:
    """Return multipliers of rows and of columns for max s^T M t, by the mixing method.

    Parameters
    ----------
    unit
        Stacks of matrices M, shape (b, k, n).
    start
        A vector for each row, shape (b, k, r); their lengths do not matter.

    Returns
    -------
    own, others
        Shapes (b, k) and (b, n).
    """
    sizes = np.abs(unit)
    along = sizes.sum(axis=2)
    across = sizes.sum(axis=1)
    vectors = _normalised(start)
    for _ in range(constants.MIXING_STEPS):
        pulled = unit.swapaxes(1, 2) @ vectors
        others = np.maximum(np.linalg.norm(pulled, axis=2), constants.MIN_MULTIPLIER * across)
        pulled = unit @ _normalised(pulled)
        own = np.maximum(np.linalg.norm(pulled, axis=2), constants.MIN_MULTIPLIER * along)
        vectors = _normalised(pulled)
    return own, others


def _unbounded(rows: Vector) -> tuple[Vector, Vector]:
    """Return infinite bounds, and equal shares, for rows that are not finite."""
    return np.full(len(rows), np.inf), np.ones(rows.shape[:2])


def _compressed(rows: Vector) -> Vector:
    """Return the rows, or random combinations of their entries where these are many."""
    n = rows.shape[2]
    if n <= constants.MIXING_RANK:
        return rows
    return rows @ np.random.default_rng(0).normal(size=(n, constants.MIXING_RANK))


def _normalised(vectors: Vector) -> Vector:
    """Divide vectors by their lengths, along the last axis; vectors of 0 stay."""
    lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _divided(rows: Vector, multipliers: Vector, axis: int) -> Vector:
    """Divide rows (axis 1) or columns (axis 2) by the roots of their multipliers."""
    roots = np.sqrt(np.where(multipliers > 0, multipliers, 1.0))
    return np.asarray(rows / np.expand_dims(roots, 3 - axis))


def _short(values: Vector) -> Vector:
    """Round to few binary digits, so that products with the numbers are short."""
    mantissas, exponents = np.frexp(values)
    scale = 2**constants.COLUMN_MULTIPLIER_BITS
    return np.asarray(
        np.ldexp(np.round(mantissas * scale), exponents - constants.COLUMN_MULTIPLIER_BITS)
    )
