"""Piecewise-linear functions written in the three primitives (DESIGN: never a new primitive)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from lipexact.errors import ModelError
from lipexact.graph.ir import Affine, Conditional, Matrix, Switch, Value, Vector


def scaled(factors: Vector | float, x: Value) -> tuple[Matrix, Value]:
    """The affine term diag(factors) x."""
    diagonal = np.asarray(factors, dtype=np.float64)
    if diagonal.shape not in ((), (1,), (x.size,)):
        raise ModelError(f"{diagonal.size} factors do not scale {x.size} entries")
    return sp.diags_array(np.broadcast_to(diagonal, (x.size,))).tocsr(), x


def add(*terms: tuple[Matrix, Value], bias: Vector | None = None, name: str = "") -> Affine:
    """Sum of affine terms, which all have the same number of rows."""
    return Affine(terms, np.zeros(terms[0][0].shape[0]) if bias is None else bias, name)


def select(indices: list[int], x: Value, name: str = "") -> Affine:
    """The entries of x at `indices`, in that order."""
    rows = len(indices)
    if not all(0 <= index < x.size for index in indices):
        raise ModelError(f"cannot select the entries {indices} of {x.size}")
    picks = sp.csr_array((np.ones(rows), (np.arange(rows), indices)), shape=(rows, x.size))
    return add((picks, x), name=name)


def relu(x: Value, name: str = "relu") -> Switch:
    """max(x, 0), entry by entry."""
    return Switch(x, Conditional(x, f"{name}_gate"), name)


def leaky_relu(x: Value, slope: Vector | float, name: str = "leaky_relu") -> Affine:
    """x where x > 0, slope * x elsewhere: slope x + (1 - slope) relu(x). Slopes may differ by entry."""
    slopes = np.asarray(slope, dtype=np.float64)
    return add(scaled(slopes, x), scaled(1.0 - slopes, relu(x, f"{name}_relu")), name=name)


def absolute(x: Value, name: str = "abs") -> Affine:
    """|x| = 2 relu(x) - x, entry by entry."""
    return add(scaled(2.0, relu(x, f"{name}_relu")), scaled(-1.0, x), name=name)


def maximum(x: Value, y: Value, name: str = "max") -> Affine:
    """max(x, y) = y + relu(x - y), entry by entry."""
    difference = add(scaled(1.0, x), scaled(-1.0, y), name=f"{name}_difference")
    return add(scaled(1.0, y), scaled(1.0, relu(difference, f"{name}_relu")), name=name)


def minimum(x: Value, y: Value, name: str = "min") -> Affine:
    """min(x, y) = x - relu(x - y), entry by entry."""
    difference = add(scaled(1.0, x), scaled(-1.0, y), name=f"{name}_difference")
    return add(scaled(1.0, x), scaled(-1.0, relu(difference, f"{name}_relu")), name=name)


def reduce_max(x: Value, name: str = "reduce_max") -> Value:
    """The largest entry of x, by a balanced tree of `maximum`."""
    level = 0
    while x.size > 1:
        half, odd = divmod(x.size, 2)
        left, right = list(range(half)), list(range(half, 2 * half))
        top = maximum(select(left, x), select(right, x), f"{name}_{level}")
        if odd:
            last = select([x.size - 1], x)
            up = sp.csr_array(sp.eye_array(half + 1, half))
            down = sp.csr_array(([1.0], ([half], [0])), shape=(half + 1, 1))
            top = add((up, top), (down, last), name=f"{name}_{level}_joined")
        x, level = top, level + 1
    return x


def reduce_sum(x: Value, name: str = "reduce_sum") -> Affine:
    """The sum of the entries of x."""
    return add((np.ones((1, x.size)), x), name=name)
