"""Sums, products, selections and shapes of tensors, for all lowerings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Value
from lipexact.numerics.arrays import Matrix, Vector
from lipexact.onnx import constants
from lipexact.onnx.nodes import Constant, Indices, OnnxNode, Operand, Shape, Tensor

PRODUCT = "the product of two tensors that depend on the input is not piecewise linear"


def limit(node: OnnxNode, count: float) -> None:
    """Refuse a node that needs more coefficients than fit into memory, before they are made.

    Raises
    ------
    UnsupportedOperatorError
    """
    if count > constants.MAX_COEFFICIENTS:
        raise node.unsupported(
            f"it needs {count:.3g} coefficients; lipexact takes {constants.MAX_COEFFICIENTS} in "
            "one operator at most"
        )


def limit_entries(node: OnnxNode, count: float) -> None:
    """Refuse a node whose output has too many entries, before they are made.

    The limit holds for outputs that depend on the input.

    Raises
    ------
    UnsupportedOperatorError
    """
    limit(node, count)
    if count > constants.MAX_ENTRIES:
        raise node.unsupported(
            f"its output has {count:.3g} entries; lipexact takes {constants.MAX_ENTRIES} at most"
        )


def picked(x: Tensor, positions: Indices, factors: Vector | float = 1.0) -> tuple[Matrix, Value]:
    """Return the affine term with the entries factors * x[positions], in C order.

    Parameters
    ----------
    x
        A tensor.
    positions
        Positions in the flat x, of any shape.
    factors
        Factors of the entries, of a shape that broadcasts to that of `positions`.

    Returns
    -------
    tuple
        A sparse matrix, and the value that it applies to.
    """
    rows = positions.size
    data = np.broadcast_to(np.asarray(factors, dtype=np.float64), positions.shape).flatten()
    matrix = sp.csr_array(
        (data, positions.flatten(), np.arange(rows + 1)), shape=(rows, x.value.size)
    )
    matrix.eliminate_zeros()
    return matrix, x.value


def rearranged(node: OnnxNode, x: Operand, positions: Indices, fill: float = 0.0) -> Operand:
    """Return the entries x[positions] of the flat x, in the shape of `positions`.

    Where a position is -1 the entry is `fill`: for x = (7, 8, 9), the positions (2, -1, 0) and the
    fill 0.5 the result is (9, 0.5, 7).
    """
    (limit_entries if isinstance(x, Tensor) else limit)(node, positions.size)
    if not positions.size:
        return np.zeros(positions.shape)  # nothing depends on the input
    inside = positions >= 0
    if not isinstance(x, Tensor):
        return np.where(
            inside, x.ravel()[np.where(inside, positions, 0)], np.asarray(fill, dtype=x.dtype)
        )
    if positions.size == x.value.size and (positions.ravel() == np.arange(positions.size)).all():
        return Tensor(x.value, positions.shape)
    term = picked(x, np.where(inside, positions, 0), inside.astype(np.float64))
    return Tensor(
        lower.add(term, bias=np.where(inside.ravel(), 0.0, fill), name=node.name), positions.shape
    )


def positions_of(x: Operand) -> Indices:
    """Return the position of every entry in the flat x, as an array of x's shape."""
    return (
        x.positions if isinstance(x, Tensor) else np.arange(x.size, dtype=np.int64).reshape(x.shape)
    )


def reshaped(node: OnnxNode, x: Operand, shape: Shape) -> Operand:
    """Return the same entries in C order under another shape, which needs no new node."""
    if math.prod(shape) != math.prod(x.shape):
        raise node.malformed(f"a tensor of shape {x.shape} does not fit into shape {shape}")
    return Tensor(x.value, shape) if isinstance(x, Tensor) else x.reshape(shape)


def common_shape(node: OnnxNode, *shapes: Shape) -> Shape:
    """Return the shape that all the shapes broadcast to by numpy's rules.

    Other than in numpy, lengths have no limit.
    """
    rank = max(map(len, shapes), default=0)
    lengths = [
        {shape[axis] for shape in shapes if -axis <= len(shape)} - {1} for axis in range(-rank, 0)
    ]
    if any(len(each) > 1 for each in lengths):
        listed = " and ".join(str(shape) for shape in shapes if shape)
        raise node.malformed(f"the shapes {listed} do not broadcast to a common one")
    return tuple(each.pop() if each else 1 for each in lengths)


def weighted_sum(
    node: OnnxNode, *terms: tuple[npt.ArrayLike, Operand], suffix: str = ""
) -> Operand:
    """Return sum_k factor_k * x_k, entry by entry, with numpy's broadcasting.

    Parameters
    ----------
    node
        The node that is being lowered.
    *terms
        Pairs of factor and operand; factors are broadcast, too.
    suffix
        The end of the new node's name, behind that of the ONNX node.

    Returns
    -------
    Tensor or numpy.ndarray
        An array if all operands are constant.
    """
    factors = [node.weights(np.asarray(factor)) for factor, _ in terms]
    shapes = [
        shape
        for factor, (_, x) in zip(factors, terms, strict=True)
        for shape in (factor.shape, x.shape)
    ]
    shape = common_shape(node, *shapes)
    limit(node, math.prod(shape) * len(terms))
    if any(isinstance(x, Tensor) for _, x in terms):
        limit_entries(node, math.prod(shape))
    affine = []
    bias = np.zeros(shape)
    for factor, (_, x) in zip(factors, terms, strict=True):
        if isinstance(x, Tensor):
            affine.append(picked(x, np.broadcast_to(x.positions, shape), factor))
        else:
            bias = bias + factor * node.weights(x)
    return (
        Tensor(lower.add(*affine, bias=bias.ravel(), name=node.name + suffix), shape)
        if affine
        else bias
    )


def extreme(node: OnnxNode, sign: float, a: Operand, b: Operand) -> Operand:
    """Return max(a, b) for the sign 1, min(a, b) for the sign -1, entry by entry.

    The operands are broadcast as by numpy. There is one gate for each entry, and the maximum and
    the minimum of the same two tensors have equal gates: the maximum of a = 3 and b = 5 is
    b + relu(a - b) = 5, and their minimum a - relu(a - b) = 3.
    """
    if not isinstance(a, Tensor):
        if not isinstance(b, Tensor):
            return np.asarray((np.maximum if sign > 0 else np.minimum)(a, b))
        a, b = b, a
    # b + relu(a - b) or a + relu(b - a) for the maximum: the side is 1 or -1.
    side: Any = sign
    if not isinstance(b, Tensor):
        # Where the gate is off, the result is exactly the base: the constant, unless it is huge.
        side = np.where(np.abs(node.weights(b)) < constants.MAX_EXACT_BASE, 1.0, -1.0)
    difference = weighted_sum(node, (sign * side, a), (-sign * side, b), suffix="_difference")
    assert isinstance(difference, Tensor)
    bent = Tensor(lower.relu(difference.value, f"{node.name}_relu"), difference.shape)
    bases: list[tuple[npt.ArrayLike, Operand]] = [(side < 0, a), (side > 0, b)]
    return weighted_sum(node, *[base for base in bases if np.any(base[0])], (sign, bent))


def matrix_product(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Return the product of numpy.matmul, of which one factor is constant.

    Raises
    ------
    UnsupportedOperatorError
        If both factors depend on the input.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        raise node.unsupported(PRODUCT)
    if not (a.shape and b.shape):
        raise node.malformed("a scalar cannot be a factor of a matrix product")
    # As numpy does: a vector on the left is a row, a vector on the right a column.
    left_shape = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right_shape = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    m, k = left_shape[-2:]
    n = right_shape[-1]
    try:
        batch = np.broadcast_shapes(left_shape[:-2], right_shape[:-2])
    except ValueError:
        batch = None
    if batch is None or k != right_shape[-2]:
        raise node.malformed(
            f"tensors of shape {a.shape} and {b.shape} cannot be multiplied as matrices"
        )
    limit(node, math.prod(batch) * m * n * k)
    limit_entries(node, math.prod(batch) * m * n)
    shape = (*batch, *((m,) if len(a.shape) > 1 else ()), *((n,) if len(b.shape) > 1 else ()))
    # Entry (..., i, j) is the sum of left[..., i, :] * right[..., :, j]. A tensor stands there by
    # the positions of its entries, a constant by its numbers.
    left = _entries(node, a).reshape(left_shape)
    right = _entries(node, b).reshape(right_shape)
    left = np.broadcast_to(left[..., :, None, :], (*batch, m, n, k))
    right = np.broadcast_to(right.swapaxes(-1, -2)[..., None, :, :], (*batch, m, n, k))
    if isinstance(a, Tensor):
        x = a
        positions = left
        weights = right
    elif isinstance(b, Tensor):
        x = b
        positions = right
        weights = left
    else:
        return np.asarray((left * right).sum(axis=-1).reshape(shape))
    rows = math.prod(shape)
    if k == x.value.size:
        # Every row reads all entries, in their order.
        matrix: Matrix = weights.reshape(rows, k)
    else:
        columns = (weights.flatten(), positions.flatten(), np.arange(0, rows * k + 1, k))
        matrix = sp.csr_array(columns, shape=(rows, x.value.size))
        matrix.eliminate_zeros()
    return Tensor(Affine(((matrix, x.value),), np.zeros(rows), f"{node.name}_product"), shape)


def _entries(node: OnnxNode, x: Operand) -> npt.NDArray[Any]:
    return x.positions if isinstance(x, Tensor) else node.weights(x)


def integers(node: OnnxNode, constant: Constant, what: str) -> tuple[int, ...]:
    """Return the entries of an input that holds integers, such as a shape or a list of axes."""
    if constant.dtype.kind not in "iu":
        raise node.malformed(f"its input '{what}' should hold integers, not {constant.dtype}")
    if constant.size > constants.MAX_SHAPE_INTEGERS:
        raise node.malformed(f"its input '{what}' holds {constant.size} integers")
    return tuple(int(entry) for entry in constant.ravel())


def counted_axes(node: OnnxNode, axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Return distinct axes, counted from the front."""
    counted = [axis + rank if axis < 0 else axis for axis in axes]
    if not all(0 <= axis < rank for axis in counted) or len(set(counted)) < len(counted):
        raise node.malformed(
            f"the axes {list(axes)} are not distinct axes of a tensor of rank {rank}"
        )
    return tuple(counted)


def axis_of(node: OnnxNode, axis: int, rank: int) -> int:
    """Return an axis, counted from the front."""
    if not -rank <= axis < rank:
        raise node.malformed(f"axis {axis} is not an axis of a tensor of rank {rank}")
    return axis % rank


def indices_of(node: OnnxNode, indices: Constant, length: int) -> Indices:
    """Return indices into an axis of the given length, counted from its front."""
    if indices.dtype.kind not in "iu":
        raise node.malformed(f"its indices should be integers, not {indices.dtype}")
    outside = (indices < -length) | (indices >= length)
    if outside.any():
        raise node.malformed(
            f"the index {indices[outside][0]} lies outside an axis of length {length}"
        )
    return np.where(indices < 0, indices + length, indices).astype(np.int64)


def one_integer(node: OnnxNode, constant: Constant, what: str) -> int:
    """Return the entry of an input that holds a single integer."""
    if constant.size != 1:
        raise node.malformed(f"its input '{what}' should hold one integer, not {constant.size}")
    return integers(node, constant, what)[0]


def aligned(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Return the second operand of an operator in a shape that broadcasts by numpy's rules."""
    # Before opset 7 the second operand was broadcast on request only, and from a given axis on: one
    # of shape (3,) from axis 1 on is one of shape (3, 1) for a first operand of shape (1, 3, 2).
    if node.opset >= 7:
        return b
    if node.int("broadcast", 0) and node.has("axis"):
        axis = node.int("axis")
        rank = len(a.shape)
        (start,) = counted_axes(node, (axis,), rank)
        return reshaped(node, b, (*b.shape, *[1] * (rank - start - len(b.shape))))
    return b
