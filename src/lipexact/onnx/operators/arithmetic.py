"""Sums and products."""

from __future__ import annotations

import numpy as np

from lipexact.onnx.nodes import OnnxNode, Operand, Tensor
from lipexact.onnx.registry import Example, lowers
from lipexact.onnx.tensors import (
    PRODUCT,
    aligned,
    matrix_product,
    numbers,
    transposed,
    weighted_sum,
)


@lowers(
    "Add",
    example=[
        Example("y = Add (x, c)", constants={"c": numbers(6)}),
        Example("y = Add (c, x)", x=(1, 3, 1), constants={"c": numbers(2, 1, 4)}),
        Example("r = Relu (x)\n y = Add (x, r)", x=(4,)),
        Example("s = Flatten <axis = 0> (x)\n t = Reshape (x, v) y = Add (s, t)", constants={"v": np.array([6, 1])}),
        Example(
            "y = Add <broadcast = 1, axis = 1> (x, c)",
            x=(1, 3, 2),
            constants={"c": numbers(3), "axis": np.array([1])},
            opset=6,
            modern="d = Unsqueeze (c, axis)\n y = Add (x, d)",
        ),
    ],
)
def _add(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """The sum, with broadcasting."""
    return weighted_sum(node, (1.0, a), (1.0, aligned(node, a, b)))


@lowers(
    "Div",
    example=[
        Example("y = Div (x, c)", constants={"c": numbers(6)}),
        Example("y = Div (x, c)", x=(1, 3), constants={"c": numbers(2, 1)}),
        Example("y = Div <broadcast = 1> (x, c)", constants={"c": numbers()}, opset=6, modern="y = Div (x, c)"),
    ],
)
def _div(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """The quotient, with broadcasting; the divisor must be constant."""
    b = aligned(node, a, b)
    if isinstance(b, Tensor):
        raise node.unsupported("a quotient by something that depends on the input is not piecewise linear")
    divisor = node.weights(b)
    if not divisor.all():
        raise node.malformed("it divides by zero")
    return weighted_sum(node, (1.0 / divisor, a))


@lowers(
    "Gemm",
    example=[
        Example("y = Gemm (x, W, b)", constants={"W": numbers(6, 3), "b": numbers(3)}),
        Example("y = Gemm <transB = 1> (x, W)", constants={"W": numbers(3, 6)}),
        Example(
            "y = Gemm <alpha = 0.7, beta = 1.3, transA = 1, transB = 1> (x, W, b)",
            x=(1, 6),
            constants={"W": numbers(3, 1), "b": numbers(6, 1)},
        ),
        Example("y = Gemm <alpha = 2.0> (A, x, b)", constants={"A": numbers(3, 1), "b": numbers()}),
        Example("y = Gemm <transA = 1, beta = -1.0> (A, B, x)", constants={"A": numbers(2, 3), "B": numbers(2, 6)}),
        Example("y = Gemm <broadcast = 1> (x, W, b)", constants={"W": numbers(6, 2), "b": numbers(2)}, opset=6),
    ],
)
def _gemm(node: OnnxNode, a: Operand, b: Operand, c: Operand | None) -> Operand:
    """alpha A B + beta C; A or B must be constant."""
    node.int("broadcast", 0)  # opset 6: whether C is broadcast, which its shape tells
    if node.int("transA", 0):
        a = transposed(node, a)
    if node.int("transB", 0):
        b = transposed(node, b)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise node.malformed(f"A and B must be matrices, not of shape {a.shape} and {b.shape}")
    product = matrix_product(node, a, b)
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    if c is None:
        return weighted_sum(node, (alpha, product))
    result = weighted_sum(node, (alpha, product), (beta, c))
    if result.shape != product.shape:
        raise node.malformed(f"C of shape {c.shape} does not broadcast to the shape {product.shape} of A B")
    return result


@lowers(
    "MatMul",
    example=[
        Example("y = MatMul (x, W)", constants={"W": numbers(6, 3)}),
        Example("y = MatMul (W, x)", x=(1, 3, 2), constants={"W": numbers(4, 3)}),
        Example("y = MatMul (x, W)", x=(1, 2, 3), constants={"W": numbers(2, 1, 3, 2)}),
        Example("y = MatMul (x, w)", x=(1, 2, 3), constants={"w": numbers(3)}),
        Example("y = MatMul (W, x)", x=(3,), constants={"W": numbers(2, 4, 3)}),
        Example("y = MatMul (w, x)", x=(1, 3, 2), constants={"w": numbers(3)}),
        Example("y = MatMul (x, w)", x=(3,), constants={"w": numbers(3)}),
    ],
)
def _matmul(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """The matrix product, with broadcasting; one factor must be constant."""
    return matrix_product(node, a, b)


@lowers(
    "Mul",
    example=[
        Example("y = Mul (x, c)", constants={"c": numbers(6)}),
        Example("y = Mul (c, x)", x=(1, 3, 1), constants={"c": numbers(2, 3, 2)}),
        Example("y = Mul (x, c)", x=(3,), constants={"c": np.array([0.0, 1.0, -2.0])}),
        Example(
            "y = Mul <broadcast = 1, axis = 0> (c, x)",
            x=(1,),
            constants={"c": numbers(1, 3)},
            opset=6,
            modern="y = Mul (c, x)",
        ),
    ],
)
def _mul(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """The product, with broadcasting; one factor must be constant."""
    b = aligned(node, a, b)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        raise node.unsupported(PRODUCT)
    return weighted_sum(node, (b, a)) if not isinstance(b, Tensor) else weighted_sum(node, (np.asarray(a), b))


@lowers(
    "Sub",
    example=[
        Example("y = Sub (x, c)", constants={"c": numbers(6)}),
        Example("y = Sub (c, x)", constants={"c": numbers(1, 1)}),
        Example("r = Relu (x)\n y = Sub (r, x)"),
        Example(
            "y = Sub <broadcast = 1, axis = 0> (x, c)",
            x=(1, 3),
            constants={"c": numbers(1)},
            opset=6,
            modern="y = Sub (x, c)",
        ),
    ],
)
def _sub(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """The difference, with broadcasting."""
    return weighted_sum(node, (1.0, a), (-1.0, aligned(node, a, b)))
