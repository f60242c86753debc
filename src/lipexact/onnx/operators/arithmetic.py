"""Sums and products."""

from __future__ import annotations

import math
from string import ascii_letters

import numpy as np
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.onnx.nodes import Constant, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import (
    PRODUCT,
    aligned,
    common_shape,
    limit,
    limit_entries,
    matrix_product,
    positions_of,
    rearranged,
    reshaped,
    weighted_sum,
)


@lowers("Add")
def _add(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Add, with broadcasting."""
    return weighted_sum(node, (1.0, a), (1.0, aligned(node, a, b)))


@lowers("Div")
def _div(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Divide, with broadcasting. The divisor must be constant."""
    b = aligned(node, a, b)
    if isinstance(b, Tensor):
        raise node.unsupported(
            "a quotient by something that depends on the input is not piecewise linear"
        )
    divisor = node.weights(b)
    if not divisor.all():
        raise node.malformed("it divides by zero")
    return weighted_sum(node, (1.0 / divisor, a))


@lowers("Einsum")
def _einsum(node: OnnxNode, *operands: Operand) -> Operand:
    """Compute the sums of products that the equation says.

    All operands but one must be constant.
    """
    equation = "".join(node.string("equation").split())
    inputs, output = _terms(node, equation, [len(x.shape) for x in operands])
    if sum(isinstance(x, Tensor) for x in operands) > 1:
        raise node.unsupported(PRODUCT)
    pairs = [
        pair
        for term, x in zip(inputs, operands, strict=True)
        for pair in zip(term, x.shape, strict=True)
    ]
    lengths = dict(pairs)
    if any(lengths[letter] != length for letter, length in pairs):
        raise node.malformed(f"the equation '{equation}' gives a letter two lengths")
    letters = output + "".join(sorted(set(lengths) - set(output)))
    whole = tuple(lengths[letter] for letter in letters)
    limit(node, math.prod(whole))
    limit_entries(node, math.prod(whole[: len(output)]))
    # The summands, with an axis for every letter.
    factors = np.ones(whole)
    positions = np.zeros(whole, np.int64)
    value = None
    for term, x in zip(inputs, operands, strict=True):
        array = x.positions if isinstance(x, Tensor) else node.weights(x)
        own = "".join(letter for letter in letters if letter in term)
        shape = [lengths[letter] if letter in term else 1 for letter in letters]
        spread = np.einsum(f"{term}->{own}", array).reshape(shape)
        if isinstance(x, Tensor):
            positions = positions + spread
            value = x.value
        else:
            factors *= spread
    if value is None:
        return np.asarray(factors.sum(axis=tuple(range(len(output), len(letters)))))
    size = math.prod(whole[: len(output)])
    rows = np.repeat(np.arange(size), factors.size // size)
    matrix = sp.csr_array((factors.ravel(), (rows, positions.ravel())), shape=(size, value.size))
    return Tensor(lower.add((matrix, value), name=node.name), whole[: len(output)])


def _terms(node: OnnxNode, equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the letters of the operands' axes, and of the output's.

    For operands of ranks 3 and 2, ``"...i,ij"`` gives ``["abi", "ij"]`` and ``"abj"``.
    """
    left, arrow, output = equation.partition("->")
    inputs = left.split(",")
    if not arrow:
        once = (letter for letter in set(left) - set(",.") if left.count(letter) == 1)
        output = "..." * ("..." in left) + "".join(sorted(once))
    if len(inputs) == len(ranks):
        # An ellipsis stands for the last of as many letters as the longest one needs.
        widths = [
            rank + 3 - len(term) if "..." in term else 0
            for term, rank in zip(inputs, ranks, strict=True)
        ]
        spare = [letter for letter in ascii_letters if letter not in equation][: max(widths)]
        ellipses = ["".join(spare[len(spare) - width :]) if width > 0 else "" for width in widths]
        inputs = [
            term.replace("...", letters, 1) for term, letters in zip(inputs, ellipses, strict=True)
        ]
        output = output.replace("...", "".join(spare), 1)
    known = set("".join(inputs))
    if [len(term) for term in inputs] != ranks or not set(output) <= known <= set(ascii_letters):
        raise node.malformed(f"the equation '{equation}' does not fit operands of rank {ranks}")
    if len(set(output)) < len(output):
        raise node.malformed(f"the equation '{equation}' names an axis of the output twice")
    return inputs, output


@lowers("Gemm")
def _gemm(node: OnnxNode, a: Operand, b: Operand, c: Operand | None) -> Operand:
    """Compute alpha A B + beta C. A or B must be constant."""
    node.int("broadcast", 0)  # opset 6: whether C is broadcast, which its shape tells
    if node.int("transA", 0):
        a = rearranged(node, a, positions_of(a).T)
    if node.int("transB", 0):
        b = rearranged(node, b, positions_of(b).T)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise node.malformed(f"A and B must be matrices, not of shape {a.shape} and {b.shape}")
    product = matrix_product(node, a, b)
    alpha = node.float("alpha", 1.0)
    beta = node.float("beta", 1.0)
    if c is None:
        return weighted_sum(node, (alpha, product))
    result = weighted_sum(node, (alpha, product), (beta, c))
    if result.shape != product.shape:
        raise node.malformed(
            f"C of shape {c.shape} does not broadcast to the shape {product.shape} of A B"
        )
    return result


@lowers("MatMul")
def _matmul(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Multiply matrices, with broadcasting. One factor must be constant."""
    return matrix_product(node, a, b)


@lowers("Mean")
def _mean(node: OnnxNode, *operands: Operand) -> Operand:
    """Take the mean of the operands, with broadcasting."""
    if not operands:
        raise node.malformed("it has no input")
    return weighted_sum(node, *[(1.0 / len(operands), x) for x in operands])


@lowers("Mul")
def _mul(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Multiply, with broadcasting. One factor must be constant."""
    b = aligned(node, a, b)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        raise node.unsupported(PRODUCT)
    return (
        weighted_sum(node, (b, a))
        if not isinstance(b, Tensor)
        else weighted_sum(node, (np.asarray(a), b))
    )


@lowers("Neg")
def _neg(node: OnnxNode, x: Tensor) -> Operand:
    """Change the sign."""
    return weighted_sum(node, (-1.0, x))


@lowers("Sub")
def _sub(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Subtract, with broadcasting."""
    return weighted_sum(node, (1.0, a), (-1.0, aligned(node, a, b)))


@lowers("Sum")
def _sum(node: OnnxNode, *operands: Operand) -> Operand:
    """Add all operands, with broadcasting."""
    if not operands:
        raise node.malformed("it has no input")
    return weighted_sum(node, *[(1.0, x) for x in operands])


@lowers("Where")
def _where(node: OnnxNode, condition: Constant, x: Operand, y: Operand) -> Operand:
    """Take x where the condition holds and y elsewhere, with broadcasting.

    The condition must be constant.
    """
    if condition.dtype != bool:
        raise node.malformed(f"its condition should be of type bool, not {condition.dtype}")
    return weighted_sum(
        node,
        *[(kept, _masked(node, kept, each)) for kept, each in ((condition, x), (~condition, y))],
    )


def _masked(node: OnnxNode, kept: Constant, x: Operand) -> Operand:
    """Return x with zeros where it is not kept, since entries there may be infinite."""
    if isinstance(x, Tensor):
        return x
    limit(node, math.prod(common_shape(node, kept.shape, x.shape)))
    return np.where(kept, x, np.zeros((), x.dtype))


@lowers("LinearRegressor", domain="ai.onnx.ml")
def _linear_regressor(node: OnnxNode, x: Tensor) -> Operand:
    """Multiply x by coefficients and add intercepts. A transform of the result is refused."""
    coefficients = np.array(node.floats("coefficients"))
    targets = node.int("targets", 1)
    intercepts = np.array(node.floats("intercepts", ()) or [0.0])
    transform = node.string("post_transform", "NONE")
    if transform != "NONE":
        raise node.unsupported(f"its post_transform {transform} is not piecewise linear")
    if targets < 1 or coefficients.size % targets or intercepts.size not in (1, targets):
        raise node.malformed(
            f"{coefficients.size} coefficients and {intercepts.size} intercepts do not fit "
            f"{targets} targets"
        )
    rows = x if len(x.shape) > 1 else reshaped(node, x, (1, *x.shape))
    product = matrix_product(node, rows, node.weights(coefficients).reshape(targets, -1).T)
    return weighted_sum(node, (1.0, product), (1.0, intercepts))


@lowers("Scaler", domain="ai.onnx.ml")
def _scaler(node: OnnxNode, x: Tensor) -> Operand:
    """Subtract offsets and multiply by scales: (x - offset) scale."""
    offset = node.weights(np.array(node.floats("offset", ()) or [0.0]))
    scale = node.weights(np.array(node.floats("scale", ()) or [1.0]))
    if not {offset.size, scale.size} <= {1, *x.shape[-1:]}:
        raise node.malformed(
            f"{offset.size} offsets and {scale.size} scales do not fit a tensor of shape {x.shape}"
        )
    return weighted_sum(node, (scale, x), (-scale, offset))
