"""How long a sum of vectors with free signs can be, by semidefinite relaxation.

max{s^T K s : |s_i| <= 1} <= lambda_max(D^-1/2 K D^-1/2) sum_i D_i for a matrix K and any numbers D_i > 0 (Shor's
relaxation, by its dual); the best D makes that at most pi / 2 times the maximum for K positive semidefinite (Nesterov,
1998). Good ones come from a few steps of the mixing method for the primal (Wang, Chang and Kolter, 2017). The same
holds for max s^T M t over two vectors of signs (Grothendieck; Alon and Naor, SIAM J. Comput. 35, 2006).
"""

from __future__ import annotations

import numpy as np

from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import TINY, gamma

_STEPS = 2  # of the mixing method
_RANK = 16  # of its vectors
_SMALL = 1e-2  # of a row's sum: no multiplier is smaller


def euclidean_sums(rows: Vector) -> tuple[Vector, Vector]:
    """At least max |sum_i s_i m_i|_2 over s in [-1, 1]^k, and how much each row adds to that.

    Parameters
    ----------
    rows
        Stacks of the m_i, shape (b, k, n).

    Returns
    -------
    upper, shares
        Shapes (b,) and (b, k).
    """
    if not np.isfinite(rows).all():
        return _unknown(rows)
    unit, size = _scaled(rows)
    gram = unit @ unit.swapaxes(1, 2)
    own = np.einsum("bkk->bk", gram)
    vectors = _normalised(_compressed(unit))
    for _ in range(_STEPS):
        pulled = gram @ vectors
        multipliers = np.maximum(np.linalg.norm(pulled, axis=2), own)
        vectors = _normalised(pulled)
    total = _norms(_divided(unit, multipliers, 1), multipliers.sum(axis=1))
    # Half of the n roundings of a square, the root, and those of the sum.
    triangle = np.sqrt(own).sum(axis=1) * (1 + gamma(sum(rows.shape[1:])))
    return _rounded(np.minimum(total, triangle) * size), multipliers * size[:, None]


def absolute_sums(rows: Vector) -> tuple[Vector, Vector]:
    """The same for max |sum_i s_i m_i|_1."""
    if not np.isfinite(rows).all():
        return _unknown(rows)
    unit, size = _scaled(rows)
    sizes = np.abs(unit)
    triangle = sizes.sum(axis=(1, 2)) * (1 + gamma(rows[0].size))
    along, across = sizes.sum(axis=2), sizes.sum(axis=1)
    vectors = _normalised(_compressed(unit))
    for _ in range(_STEPS):
        pulled = unit.swapaxes(1, 2) @ vectors
        others = np.maximum(np.linalg.norm(pulled, axis=2), _SMALL * across)
        pulled = unit @ _normalised(pulled)
        multipliers = np.maximum(np.linalg.norm(pulled, axis=2), _SMALL * along)
        vectors = _normalised(pulled)
    scaled = _divided(_divided(unit, multipliers, 1), others, 2)
    total = _norms(scaled, multipliers.sum(axis=1) * others.sum(axis=1))
    return _rounded(np.minimum(total, triangle) * size), multipliers * size[:, None]


def spectral_norms(matrices: Vector) -> Vector:
    """At least the largest singular value of each of a stack of matrices, shape (b, m, n)."""
    if not np.isfinite(matrices).all():
        return np.full(len(matrices), np.inf)
    unit, size = _scaled(matrices)
    found = _rounded(_norms(unit, np.ones(len(unit))) * size)
    return np.where(matrices.any(axis=(1, 2)), found, 0.0)


def _scaled(rows: Vector) -> tuple[Vector, Vector]:
    """The rows in units of a power of two for each stack, as squares underflow.

    The largest entry is then at least 1/2. What still underflows, with its square or its multiplier, is below 1e-150,
    and no matter beside the room that the results have for rounding.
    """
    largest = np.abs(rows).max(axis=(1, 2), initial=0.0)
    size = np.ldexp(1.0, np.minimum(np.frexp(largest)[1], 1023))
    return rows / size[:, None, None], size


def _unknown(rows: Vector) -> tuple[Vector, Vector]:
    return np.full(len(rows), np.inf), np.ones(rows.shape[:2])


def _rounded(values: Vector) -> Vector:
    # A product with a power of two, which may underflow, and what the caller adds to it.
    return np.asarray(values * (1 + gamma(4)) + TINY)


def _compressed(rows: Vector) -> Vector:
    """The rows, or random combinations of their entries where these are many."""
    n = rows.shape[2]
    return rows if n <= _RANK else rows @ np.random.default_rng(0).normal(size=(n, _RANK))


def _normalised(vectors: Vector) -> Vector:
    lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _divided(rows: Vector, multipliers: Vector, axis: int) -> Vector:
    roots = np.sqrt(np.where(multipliers > 0, multipliers, 1.0))
    return np.asarray(rows / np.expand_dims(roots, 3 - axis))


def _norms(scaled: Vector, weights: Vector) -> Vector:
    """At least sqrt(weights) times the spectral norms of stacks of matrices, whose entries are off by a few units.

    An approximate largest eigenvalue of the Gram matrix is an upper bound, up to rounding that is known, if Cholesky's
    method runs to its end on what it leaves (Rump, BIT 46, 2006): the computed factor R has R^T R = A + E, |E| at most
    gamma_(size + 1) |R|^T |R|, whose norm is at most its trace, which is that of A, and size times `top` bounds that.
    Two more operations are for A itself, from `top` and the Gram matrix. This one's entries are sums of `terms`
    products of entries that have seen 4 roundings each at most: it is off by gamma_(terms + 8) times a matrix of the
    same trace. The last factor is for the roundings of `weights`, a sum or a product of two sums of multipliers, halved
    by the root.
    """
    k, n = scaled.shape[1:]
    gram = scaled @ scaled.swapaxes(1, 2) if k <= n else scaled.swapaxes(1, 2) @ scaled
    size, terms = min(k, n), max(k, n)
    trace = np.einsum("bkk->b", gram)
    top = np.linalg.eigvalsh(gram)[:, -1] * (1 + 1e-15 * (size + 4) ** 2)
    try:
        np.linalg.cholesky((top + TINY)[:, None, None] * np.eye(size) - gram)
    except np.linalg.LinAlgError:
        top = trace
    top = top * (1 + gamma(size + 3) * size) + gamma(terms + 12) * trace
    return np.asarray(np.sqrt(top * weights) * (1 + gamma(terms + 8)) + TINY)
