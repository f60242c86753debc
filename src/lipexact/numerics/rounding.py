"""Bounds of rounding errors: what to add to a computed value so that it bounds the true one.

A sum of n products computed in any order differs from the true one by at most
gamma_n * sum |a_i b_i| with gamma_n = n u / (1 - n u), u = 2^-53 (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1). Underflow can lose up to n times the smallest subnormal on top.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import scipy.sparse as sp

from lipexact.numerics.arrays import Matrix, Vector

# The largest relative error of one rounding.
UNIT = 2.0**-53
# More than n underflows lose (n * 2^-1074), for n below 10^7.
TINY = 1e-316
# The most roundings that an entry of a folded graph may be off.
FOLDED = 128
# Where products are smaller than this, underflow may lose more than rounding does.
SMALLEST = 1e-290


def gamma(n: int) -> float:
    """Bound the relative error of n operations, with room for the error of the bound's own use.

    Using it takes at most 4 roundings more: 1 + gamma, a product with that, and one more sum. The
    factor covers the denominator of n u / (1 - n u), and sums of absolute values that are
    themselves rounded, as long as n u < 0.005.

    Examples
    --------
    A sum of 10 products is off by less than 14.2 units of 2^-53, in proportion to the sum of the
    absolute values of the products:

    >>> round(gamma(10) / UNIT, 2)
    14.14
    """
    return (n + 4) * UNIT * 1.01


def up(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Bound true values from above.

    Parameters
    ----------
    values
        The computed values: sums of n products. If a product may underflow, the caller adds
        :data:`TINY`.
    magnitude
        The sums of the absolute values of these products.
    n
        The number of products.

    Examples
    --------
    The float sum of 1 and 2^-60 is 1, and its upper bound is above the true sum:

    >>> bool(up(np.array([1.0 + 2.0**-60]), np.array([1.0]), 2)[0] > 1.0)
    True
    """
    return values + gamma(n + 2) * magnitude


def down(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Bound true values from below: see :func:`up`."""
    return -up(-values, magnitude, n)


def smallest(matrix: Matrix) -> float:
    """Return the smallest absolute value of an entry other than 0, or 1 if that is smaller."""
    values = np.abs(matrix.data if sp.issparse(matrix) else matrix)
    return float(values.min(initial=1.0, where=values > 0))


def rounded(exact: Fraction) -> float:
    """Round a fraction to the nearest float, which is infinite if the fraction is too large."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
