"""Interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

import numpy as np
import scipy.sparse as sp

from lipexact.graph.ir import Affine
from lipexact.numerics.arrays import Matrix
from lipexact.onnx.nodes import Constant, OnnxNode, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import counted_axes, integers, limit, limit_entries

# The nearest entry, and where it changes: at whole numbers, or between them. Before opset 11 nobody said which one is
# the nearest, and when there are fewer entries than before runtimes differ.
_OLD_NEAREST = "floor, or ceil"
_NEAREST = {
    _OLD_NEAREST: (math.floor, Fraction(0)),
    "round_prefer_floor": (lambda place: math.ceil(place - Fraction(1, 2)), Fraction(1, 2)),
    "round_prefer_ceil": (lambda place: math.floor(place + Fraction(1, 2)), Fraction(1, 2)),
    "floor": (math.floor, Fraction(0)),
    "ceil": (math.ceil, Fraction(0)),
}


@lowers("Resize")
def _resize(
    node: OnnxNode,
    x: Tensor,
    second: Constant | None,
    scales: Constant | None,
    sizes: Constant | None,
) -> Tensor:
    """Nearest, linear and cubic interpolation.

    Refused: cropping, antialiasing, and what runtimes differ in, such as scales that give no whole number of entries.
    """
    if node.opset < 11:
        second, scales = None, second
        places, nearest = "asymmetric", _OLD_NEAREST
    else:
        places = node.string("coordinate_transformation_mode", "half_pixel")
        nearest = node.string("nearest_mode", "round_prefer_floor")
    if node.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unsupported(
            "lipexact resizes every axis by its own scale; export with explicit sizes"
        )
    if node.int("antialias", 0):
        raise node.unsupported("lipexact does not know antialiasing")
    node.float("extrapolation_value", 0.0)  # of cropping alone
    mode, cubic = node.string("mode", "nearest"), node.float("cubic_coeff_a", -0.75)
    if node.int("exclude_outside", 0) and mode == "cubic":
        raise node.unsupported("lipexact does not know exclude_outside")
    rank = len(x.shape)
    axes = counted_axes(node, node.ints("axes", range(rank)), rank)
    return _interpolated(node, x, axes, scales, sizes, (mode, places, nearest, cubic))


@lowers("Upsample")
def _upsample(node: OnnxNode, x: Tensor, scales: Constant | None) -> Tensor:
    """Nearest and linear interpolation, as Resize had it in opset 10."""
    if node.opset < 9:
        scales = np.array(node.floats("scales"), dtype=np.float32)
    rule = (node.string("mode", "nearest"), "asymmetric", _OLD_NEAREST, 0.0)
    return _interpolated(node, x, range(len(x.shape)), scales, None, rule)


def _interpolated(
    node: OnnxNode,
    x: Tensor,
    axes: Sequence[int],
    scales: Constant | None,
    sizes: Constant | None,
    rule: tuple[str, str, str, float],
) -> Tensor:
    if sizes is not None and sizes.size:
        lengths = integers(node, sizes, "sizes")
        if len(lengths) != len(axes) or min(lengths) < 1:
            raise node.malformed(f"its sizes {list(lengths)} are not {len(axes)} positive lengths")
    elif scales is None or scales.size != len(axes) or not (node.weights(scales) > 0).all():
        raise node.malformed(f"it needs {len(axes)} positive scales, or sizes")
    else:
        scaled = [
            x.shape[axis] * scale
            for axis, scale in zip(axes, node.weights(scales).ravel().tolist(), strict=True)
        ]
        lengths = tuple(round(min(length, 1e18)) for length in scaled)
        if any(abs(length - new) > 1e-6 * new for length, new in zip(scaled, lengths, strict=True)):
            raise node.unsupported(
                f"its scales make lengths {scaled} of the shape {x.shape}, which runtimes round in several ways: "
                "export with sizes, or scales that give whole numbers"
            )
    matrices: dict[int, Matrix] = {}
    shape = list(x.shape)
    changed = dict(zip(axes, lengths, strict=True))
    limit_entries(node, math.prod(changed.get(axis, length) for axis, length in enumerate(shape)))
    for axis, length in changed.items():
        if length != shape[axis]:
            limit(node, 2**10 * length)  # its fractions take as much memory
        if length != shape[axis]:
            matrices[axis] = _of_axis(node, shape[axis], length, *rule)
        shape[axis] = length
    parts = [
        matrices.get(axis, sp.eye_array(length, format="csr"))
        for axis, length in enumerate(x.shape)
    ]
    limit(node, math.prod(float(part.nnz) for part in parts))
    matrix = sp.csr_array(
        reduce(lambda left, right: sp.kron(left, right, format="csr"), parts, sp.eye_array(1))
    )
    return Tensor(Affine(((matrix, x.value),), np.zeros(matrix.shape[0]), node.name), tuple(shape))


def _place(rule: str, k: int, old: int, new: int) -> Fraction | None:
    """Where the k-th of `new` entries, made of `old`, lies among those."""
    match rule:
        case "half_pixel" | "half_pixel_symmetric":
            return (k + Fraction(1, 2)) * old / new - Fraction(1, 2)
        case "pytorch_half_pixel":
            return (k + Fraction(1, 2)) * old / new - Fraction(1, 2) if new > 1 else Fraction(0)
        case "align_corners":
            return k * Fraction(old - 1, new - 1) if new > 1 else Fraction(0)
        case "asymmetric":
            return k * Fraction(old, new)
        case "tf_half_pixel_for_nn":
            return (k + Fraction(1, 2)) * old / new
        case _:
            return None


def _of_axis(
    node: OnnxNode, old: int, new: int, mode: str, rule: str, nearest: str, cubic: float
) -> Matrix:
    """The matrix, of shape (new, old), that interpolates along one axis."""
    places = [place for k in range(new) if (place := _place(rule, k, old, new)) is not None]
    if not places or nearest not in _NEAREST or mode not in ("nearest", "linear", "cubic"):
        raise node.unsupported(f"lipexact does not interpolate by '{mode}', '{rule}', '{nearest}'")
    if mode == "nearest":
        if nearest == _OLD_NEAREST and new < old and any(place.denominator > 1 for place in places):
            raise node.unsupported(
                "runtimes differ in what nearest means before opset 11; export for a newer one"
            )
        choose, border = _NEAREST[nearest]
        # On a border, rounding decides in every runtime anew, unless the scale is a float.
        scale = Fraction(new, old).denominator
        if scale & (scale - 1) and any(
            place and (place - border).denominator == 1 for place in places
        ):
            raise node.unsupported(
                "its entries lie on the border between two others, where runtimes round differently"
            )
        return _rows(old, [[(choose(place), 1.0)] for place in places])
    rows = []
    for place in places:
        first = math.floor(place)
        s = float(place - first)
        if mode == "linear":
            rows.append([(first, 1.0 - s), (first + 1, s)])
        else:
            # Keys (1981): the cubic convolution with parameter a.
            near = [((cubic + 2) * t - (cubic + 3)) * t * t + 1 for t in (s, 1 - s)]
            far = [
                ((cubic * t - 5 * cubic) * t + 8 * cubic) * t - 4 * cubic for t in (1 + s, 2 - s)
            ]
            rows.append(
                list(zip(range(first - 1, first + 3), (far[0], *near, far[1]), strict=True))
            )
    return _rows(old, rows)


def _rows(old: int, rows: list[list[tuple[int, float]]]) -> Matrix:
    """The matrix of such weights at such entries; those beyond an end are its last entry."""
    places = [
        (k, min(max(j, 0), old - 1), weight)
        for k, row in enumerate(rows)
        for j, weight in row
        if weight
    ]
    to, of, weights = zip(*places, strict=True)
    return sp.csr_array(sp.coo_array((weights, (to, of)), shape=(len(rows), old)))
