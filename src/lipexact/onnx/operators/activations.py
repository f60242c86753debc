"""Activations: functions with kinks, entry by entry."""

from __future__ import annotations

from functools import reduce

import numpy as np

from lipexact.graph import lowering as lower
from lipexact.onnx.nodes import Constant, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import common_shape, extreme, weighted_sum


@lowers("Abs")
def _abs(node: OnnxNode, x: Tensor) -> Tensor:
    """Take the absolute value."""
    return Tensor(lower.absolute(x.value, node.name), x.shape)


@lowers("Clip")
def _clip(node: OnnxNode, x: Tensor, low: Constant | None, high: Constant | None) -> Operand:
    """Clip to the range from low to high: min(max(x, low), high). The bounds must be constant."""
    if node.opset < 11:
        if low is not None or high is not None:
            raise node.malformed("before opset 11 its bounds are attributes, not inputs")
        low, high = (
            np.array(node.float(name), dtype=np.float32) if node.has(name) else None
            for name in ("min", "max")
        )
    result: Operand = x
    for sign, name, bound in ((1.0, "min", low), (-1.0, "max", high)):
        if bound is None:
            continue
        if bound.size != 1:
            raise node.malformed(f"its '{name}' should be one number, not of shape {bound.shape}")
        # The largest number of a type stands for none.
        if bound.dtype.kind != "f" or not (bound * sign <= np.finfo(bound.dtype).min).all():
            result = extreme(node, sign, result, bound.reshape(()))
    return result


@lowers("HardSigmoid")
def _hard_sigmoid(node: OnnxNode, x: Tensor) -> Operand:
    """Clip a line to the range from 0 to 1: min(max(alpha x + beta, 0), 1)."""
    alpha = node.float("alpha", float(np.float32(0.2)))
    beta = node.float("beta", 0.5)
    line = weighted_sum(node, (alpha, x), (1.0, np.array(beta)), suffix="_line")
    return extreme(node, -1.0, extreme(node, 1.0, line, np.array(0.0)), np.array(1.0))


@lowers("LeakyRelu")
def _leaky_relu(node: OnnxNode, x: Tensor) -> Tensor:
    """Multiply by alpha where x < 0."""
    alpha = float(node.weights(np.array(node.float("alpha", float(np.float32(0.01))))))
    return Tensor(lower.leaky_relu(x.value, alpha, node.name), x.shape)


@lowers("Max")
def _max(node: OnnxNode, *operands: Operand) -> Operand:
    """Take the largest of the operands, with broadcasting."""
    return _extreme_of(node, 1.0, operands)


@lowers("Min")
def _min(node: OnnxNode, *operands: Operand) -> Operand:
    """Take the smallest of the operands, with broadcasting."""
    return _extreme_of(node, -1.0, operands)


def _extreme_of(node: OnnxNode, sign: float, operands: tuple[Operand, ...]) -> Operand:
    """Return the maximum (sign 1) or minimum (sign -1) of the operands.

    The tensors are combined in a balanced tree, and one constant comes last.
    """
    if not operands:
        raise node.malformed("it has no input")
    common_shape(node, *(x.shape for x in operands))
    level: list[Operand] = [x for x in operands if isinstance(x, Tensor)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [*(extreme(node, sign, a, b) for a, b in pairs), *level[len(level) // 2 * 2 :]]
    constants = [x for x in operands if not isinstance(x, Tensor)]
    if constants:
        level.append(reduce(np.maximum if sign > 0 else np.minimum, constants))
    return reduce(lambda a, b: extreme(node, sign, a, b), level)


@lowers("PRelu")
def _prelu(node: OnnxNode, x: Tensor, slope: Constant) -> Tensor:
    """Multiply by a slope for each entry where x < 0. The slopes must be constant."""
    slopes = node.weights(slope)
    if node.opset < 7 and slopes.ndim == 1 and slopes.size > 1 and len(x.shape) > 2:
        slopes = slopes.reshape(-1, *[1] * (len(x.shape) - 2))  # one for each channel
    if common_shape(node, x.shape, slopes.shape) != x.shape:
        raise node.malformed(
            f"the slopes of shape {slope.shape} do not broadcast to the shape {x.shape} of its "
            "input"
        )
    return Tensor(
        lower.leaky_relu(x.value, np.broadcast_to(slopes, x.shape).ravel(), node.name), x.shape
    )


@lowers("Relu")
def _relu(node: OnnxNode, x: Tensor) -> Tensor:
    """Replace negative entries by 0: max(x, 0)."""
    return Tensor(lower.relu(x.value, node.name), x.shape)


@lowers("Shrink")
def _shrink(node: OnnxNode, x: Tensor) -> Tensor:
    """Shrink towards 0: x - bias where x > lambd, x + bias where x < -lambd, 0 between.

    Refused unless bias = lambd, without which it is not continuous.
    """
    bias = node.float("bias", 0.0)
    lambd = node.float("lambd", 0.5)
    if bias != lambd or lambd < 0:
        raise node.unsupported(
            f"with bias {bias:g} and lambd {lambd:g} it is not continuous; bias = lambd >= 0 is"
        )
    if lambd == 0:
        return x
    edge = np.full(x.value.size, -lambd)
    above = lower.relu(lower.add(lower.scaled(1.0, x.value), bias=edge), f"{node.name}_above")
    below = lower.relu(lower.add(lower.scaled(-1.0, x.value), bias=edge), f"{node.name}_below")
    return Tensor(
        lower.add(lower.scaled(1.0, above), lower.scaled(-1.0, below), name=node.name), x.shape
    )


@lowers("ThresholdedRelu")
def _thresholded_relu(node: OnnxNode, x: Tensor) -> Tensor:
    """Replace entries up to alpha by 0. Refused unless alpha = 0."""
    alpha = node.float("alpha", 1.0)
    if alpha:
        raise node.unsupported(f"with alpha {alpha:g} it is not continuous")
    return Tensor(lower.relu(x.value, node.name), x.shape)
