"""Piecewise-linear functions, written in the three primitives.

Every function that a network may use is built from these; none is a primitive of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import ModelError
from lipexact.graph.ir import Affine, Conditional, Switch, Value
from lipexact.numerics.arrays import Matrix, Vector


def scaled(factors: Vector | float, x: Value) -> tuple[Matrix, Value]:
    """Return the affine term diag(factors) x."""
    diagonal = np.asarray(factors, dtype=np.float64)
    if diagonal.shape not in ((), (1,), (x.size,)):
        raise ModelError(f"{diagonal.size} factors do not scale {x.size} entries")
    return sp.diags_array(np.broadcast_to(diagonal, (x.size,))).tocsr(), x


def add(*terms: tuple[Matrix, Value], bias: Vector | None = None, name: str = "") -> Affine:
    """Return the sum of affine terms, which all have the same number of rows."""
    return Affine(terms, np.zeros(terms[0][0].shape[0]) if bias is None else bias, name)


def select(indices: list[int], x: Value, name: str = "") -> Affine:
    """Return the entries of x at `indices`, in that order."""
    rows = len(indices)
    if not all(0 <= index < x.size for index in indices):
        raise ModelError(f"cannot select the entries {indices} of {x.size}")
    picks = sp.csr_array((np.ones(rows), (np.arange(rows), indices)), shape=(rows, x.size))
    return add((picks, x), name=name)


def relu(x: Value, name: str = "relu") -> Switch:
    """Return max(x, 0), entry by entry."""
    return Switch(x, Conditional(x, f"{name}_gate"), name)


def leaky_relu(x: Value, slope: Vector | float, name: str = "leaky_relu") -> Affine:
    """Return x where x > 0, and slope * x elsewhere; slopes may differ by entry.

    It is slope x + (1 - slope) relu(x).
    """
    slopes = np.asarray(slope, dtype=np.float64)
    return add(scaled(slopes, x), scaled(1.0 - slopes, relu(x, f"{name}_relu")), name=name)


def absolute(x: Value, name: str = "abs") -> Affine:
    """Return |x| = 2 relu(x) - x, entry by entry."""
    return add(scaled(2.0, relu(x, f"{name}_relu")), scaled(-1.0, x), name=name)


def maximum(x: Value, y: Value, name: str = "max") -> Affine:
    """Return max(x, y) = y + relu(x - y), entry by entry."""
    difference = add(scaled(1.0, x), scaled(-1.0, y), name=f"{name}_difference")
    return add(scaled(1.0, y), scaled(1.0, relu(difference, f"{name}_relu")), name=name)


def minimum(x: Value, y: Value, name: str = "min") -> Affine:
    """Return min(x, y) = x - relu(x - y), entry by entry."""
    difference = add(scaled(1.0, x), scaled(-1.0, y), name=f"{name}_difference")
    return add(scaled(1.0, x), scaled(-1.0, relu(difference, f"{name}_relu")), name=name)


def reduce_max(x: Value, name: str = "reduce_max") -> Value:
    """Return the largest entry of x, by a balanced tree of `maximum`."""
    level = 0
    while x.size > 1:
        half, odd = divmod(x.size, 2)
        left = select(list(range(half)), x)
        right = select(list(range(half, 2 * half)), x)
        top = maximum(left, right, f"{name}_{level}")
        if odd:
            last = select([x.size - 1], x)
            up = sp.csr_array(sp.eye_array(half + 1, half))
            down = sp.csr_array(([1.0], ([half], [0])), shape=(half + 1, 1))
            top = add((up, top), (down, last), name=f"{name}_{level}_joined")
        x = top
        level += 1
    return x


def window_maximum(
    x: Value, windows: npt.NDArray[np.int64], name: str = "max", sign: float = 1.0
) -> Value:
    """Return the largest entry of x in every window, by balanced trees.

    Windows that read the same pair of entries share its gate.

    Parameters
    ----------
    x
        A vector.
    windows
        Positions in x, of shape (windows, longest); a row for each window, where -1 stands for no
        entry.
    name
        The prefix of the nodes' names.
    sign
        1 for the largest entries, -1 for the smallest ones.

    Returns
    -------
    Value
        One entry for each window. A window of k distinct entries takes at most k - 1 gates.
    """
    windows = _distinct_entries(windows, x.size, name)
    level = 0
    while windows.shape[1] > 1:
        x, windows = _maximum_of_pairs(x, windows, f"{name}_{level}", sign)
        level += 1
    order = windows[:, 0]
    if np.array_equal(order, np.arange(x.size)):
        return x
    return add((_picks(order, x.size), x), name=name)


def _distinct_entries(
    windows: npt.NDArray[np.int64], size: int, name: str
) -> npt.NDArray[np.int64]:
    """Sort each window and drop what it repeats; missing entries become `size`, and come last."""
    if windows.max(initial=-1) >= size:
        raise ModelError(f"'{name}' cannot read the entry {windows.max()} of {size}")
    windows = np.sort(np.where(windows < 0, size, windows).astype(np.int64), axis=1)
    windows[:, 1:][windows[:, 1:] == windows[:, :-1]] = size
    counts = (windows < size).sum(axis=1)
    if not counts.all() or windows.shape[0] == 0:
        raise ModelError(f"'{name}' takes the maximum over no entries")
    return np.asarray(np.sort(windows, axis=1)[:, : counts.max()])


def _maximum_of_pairs(
    x: Value, windows: npt.NDArray[np.int64], name: str, sign: float
) -> tuple[Value, npt.NDArray[np.int64]]:
    """Take the maximum of neighbours in each window: one level of the trees.

    For the windows (0, 1, 2) and (0, 1, 3) the pairs are (0, 1), (2, 2) and (3, 3): the first one
    takes one gate, which both windows share, and the windows of the next level are (0, 1) and
    (0, 2), positions among the pairs.

    Returns
    -------
    x, windows
        The maxima of all pairs, each once, and the windows over them.
    """
    far = x.size
    even = windows[:, ::2]
    odd = np.full_like(even, far)
    odd[:, : windows.shape[1] // 2] = windows[:, 1::2]
    # The pairs, each once; an entry without a partner is a pair with itself and needs no gate.
    odd = np.where(odd == far, even, odd)
    pairs, places = np.unique(even * (far + 1) + odd, return_inverse=True)
    windows = places.reshape(even.shape)
    if pairs[-1] == far * (far + 2):  # the pair of two missing entries, which is the last one
        pairs = pairs[:-1]
    left, right = np.divmod(pairs, far + 1)
    # max(a, b) = b + relu(a - b), min(a, b) = a - relu(a - b)
    gated = np.flatnonzero(left != right)
    difference = sp.csr_array(_picks(left[gated], far) - _picks(right[gated], far))
    above = relu(add((difference, x), name=f"{name}_difference"), f"{name}_relu")
    raised = sp.csr_array(
        (np.full(gated.size, sign), (gated, np.arange(gated.size))),
        shape=(pairs.size, gated.size),
    )
    base = _picks(right if sign > 0 else left, far)
    return add((base, x), (raised, above), name=name), windows


def largest(x: Value, slices: npt.NDArray[np.int64], count: int, name: str = "sort") -> Affine:
    """Return the `count` largest entries of each slice of x, largest first, slice after slice.

    This is Batcher's merge exchange (Knuth, The Art of Computer Programming, 5.2.2, algorithm M)
    without the comparators on which no result depends. A comparator takes one gate:
    max(a, b) = b + r and min(a, b) = a - r for r = relu(a - b).

    Parameters
    ----------
    x
        A vector.
    slices
        The positions of the entries, a row for each slice.
    count
        The number of entries to return of each slice.
    name
        The prefix of the nodes' names.
    """
    rows, wires = slices.shape
    needed = np.arange(wires) < count
    layers = []
    for i, j in reversed(list(_merge_exchange(wires))):
        matter = needed[i] | needed[j]
        if matter.any():
            layers.append((i[matter], j[matter], np.flatnonzero(needed)))
            needed[i[matter]] = needed[j[matter]] = True
    live = np.flatnonzero(needed)
    slot = np.zeros(wires, np.int64)
    result = add((_picks(slices[:, live].ravel(), x.size), x), name=name)
    for level, (i, j, after) in enumerate(reversed(layers)):
        # Wire w takes the value of source[w], plus sign[w] times the relu of comparator[w].
        source = np.arange(wires)
        comparator = np.zeros(wires, np.int64)
        sign = np.zeros(wires)
        source[i] = j
        source[j] = i
        sign[i] = 1.0
        sign[j] = -1.0
        comparator[i] = comparator[j] = np.arange(i.size)
        slot[live] = np.arange(live.size)
        first = live.size * np.arange(rows)[:, None]
        left, right, kept = (
            _picks((first + slot[wire]).ravel(), result.size) for wire in (i, j, source[after])
        )
        difference = add((left - right, result), name=f"{name}_{level}_difference")
        change = _picks(
            (i.size * np.arange(rows)[:, None] + comparator[after]).ravel(), difference.size
        )
        change.data *= np.tile(sign[after], rows)
        change.eliminate_zeros()
        result = add(
            (kept, result),
            (change, relu(difference, f"{name}_{level}_relu")),
            name=f"{name}_{level}",
        )
        live = after
    return result


def _merge_exchange(wires: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield layers of comparators (i, j) without a common wire; the larger entry goes to i < j."""
    p = top = (1 << (wires - 1).bit_length()) // 2
    while p:
        q = top
        r = 0
        d = p
        while True:
            i = np.arange(wires - d)
            i = i[i & p == r]
            if i.size:
                yield i, i + d
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2


def _picks(indices: npt.NDArray[np.int64], size: int) -> Matrix:
    """Return the matrix that selects the entries at `indices` of a vector."""
    return sp.csr_array(
        (np.ones(indices.size), indices, np.arange(indices.size + 1)), shape=(indices.size, size)
    )


def reduce_sum(x: Value, name: str = "reduce_sum") -> Affine:
    """Return the sum of the entries of x."""
    return add((np.ones((1, x.size)), x), name=name)
