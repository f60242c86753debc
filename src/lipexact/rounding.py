"""What floating-point arithmetic can lose, as numbers to add.

A sum of n products computed in any order differs from the true one by at most
gamma_n * sum |a_i b_i| with gamma_n = n u / (1 - n u), u = 2^-53 (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1). Underflow can lose up to n times the smallest subnormal on top.
"""

from __future__ import annotations

from lipexact.graph.ir import Vector

_UNIT = 2.0**-53
# More than n underflows lose (n * 2^-1074), for n below 10^5.
TINY = 1e-318


def gamma(n: int) -> float:
    """A bound of the relative error of n operations, with room for the error of its own use."""
    return (n + 4) * _UNIT * 1.01


def up(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Upper bounds of true values, from computed ones and the sum of the absolute values behind them."""
    return values + gamma(n + 2) * magnitude


def down(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Lower bounds of true values: see :func:`up`."""
    return -up(-values, magnitude, n)
