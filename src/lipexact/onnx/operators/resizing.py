"""Interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np
import scipy.sparse as sp

from lipexact.graph.ir import Affine
from lipexact.numerics.arrays import Matrix
from lipexact.onnx import constants
from lipexact.onnx.nodes import Constant, OnnxNode, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import counted_axes, integers, limit, limit_entries

# For each mode the nearest entry to a place, and the fraction of a place at which that changes:
# at whole numbers, or halfway between them. Before opset 11 the standard did not say which entry is
# the nearest, and runtimes differ where the output has fewer entries than the input.
_OLD_NEAREST = "floor, or ceil"
_NEAREST = {
    _OLD_NEAREST: (math.floor, Fraction(0)),
    "round_prefer_floor": (lambda place: math.ceil(place - Fraction(1, 2)), Fraction(1, 2)),
    "round_prefer_ceil": (lambda place: math.floor(place + Fraction(1, 2)), Fraction(1, 2)),
    "floor": (math.floor, Fraction(0)),
    "ceil": (math.ceil, Fraction(0)),
}


@dataclass(frozen=True)
class _Rule:
    """A rule of interpolation.

    Attributes
    ----------
    mode
        "nearest", "linear" or "cubic".
    places
        How an entry of the output is placed among those of the input: see :func:`_place`.
    nearest
        Which entry is the nearest one: a key of `_NEAREST`.
    cubic
        The parameter a of cubic convolution.
    """

    mode: str
    places: str
    nearest: str
    cubic: float


@lowers("Resize")
def _resize(
    node: OnnxNode,
    x: Tensor,
    second: Constant | None,
    scales: Constant | None,
    sizes: Constant | None,
) -> Tensor:
    """Interpolate: nearest, linear and cubic.

    Refused: cropping, antialiasing, and what runtimes differ in, such as scales that give no whole
    number of entries.
    """
    if node.opset < 11:
        second, scales = None, second
        places = "asymmetric"
        nearest = _OLD_NEAREST
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
    mode = node.string("mode", "nearest")
    cubic = node.float("cubic_coeff_a", -0.75)
    if node.int("exclude_outside", 0) and mode == "cubic":
        raise node.unsupported("lipexact does not know exclude_outside")
    rank = len(x.shape)
    axes = counted_axes(node, node.ints("axes", range(rank)), rank)
    return _interpolated(node, x, axes, scales, sizes, _Rule(mode, places, nearest, cubic))


@lowers("Upsample")
def _upsample(node: OnnxNode, x: Tensor, scales: Constant | None) -> Tensor:
    """Interpolate as Resize does in opset 10: nearest and linear."""
    if node.opset < 9:
        scales = np.array(node.floats("scales"), dtype=np.float32)
    rule = _Rule(node.string("mode", "nearest"), "asymmetric", _OLD_NEAREST, cubic=0.0)
    return _interpolated(node, x, range(len(x.shape)), scales, None, rule)


def _interpolated(
    node: OnnxNode,
    x: Tensor,
    axes: Sequence[int],
    scales: Constant | None,
    sizes: Constant | None,
    rule: _Rule,
) -> Tensor:
    """Return x with the given axes resized to `sizes`, or by `scales`.

    The matrix is the Kronecker product of one interpolation for each axis.
    """
    lengths = _new_lengths(node, [x.shape[axis] for axis in axes], x, scales, sizes)
    matrices: dict[int, Matrix] = {}
    shape = list(x.shape)
    resized = dict(zip(axes, lengths, strict=True))
    limit_entries(node, math.prod(resized.get(axis, length) for axis, length in enumerate(shape)))
    for axis, length in resized.items():
        if length != shape[axis]:
            limit(node, constants.COEFFICIENTS_PER_FRACTION * length)
            matrices[axis] = _axis_matrix(node, shape[axis], length, rule)
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


def _new_lengths(
    node: OnnxNode, old: list[int], x: Tensor, scales: Constant | None, sizes: Constant | None
) -> tuple[int, ...]:
    """Return the lengths of the resized axes, whose old lengths are given."""
    if sizes is not None and sizes.size:
        lengths = integers(node, sizes, "sizes")
        if len(lengths) != len(old) or min(lengths) < 1:
            raise node.malformed(f"its sizes {list(lengths)} are not {len(old)} positive lengths")
        return lengths
    if scales is None or scales.size != len(old) or not (node.weights(scales) > 0).all():
        raise node.malformed(f"it needs {len(old)} positive scales, or sizes")
    factors = node.weights(scales).ravel().tolist()
    scaled = [length * factor for length, factor in zip(old, factors, strict=True)]
    lengths = tuple(round(min(length, constants.MAX_RESIZED_LENGTH)) for length in scaled)
    if any(
        abs(length - new) > constants.LENGTH_TOLERANCE * new
        for length, new in zip(scaled, lengths, strict=True)
    ):
        raise node.unsupported(
            f"its scales make lengths {scaled} of the shape {x.shape}, which runtimes round in "
            "several ways: export with sizes, or scales that give whole numbers"
        )
    return lengths


def _place(rule: str, k: int, old: int, new: int) -> Fraction | None:
    """Return where the k-th of `new` entries lies among the `old` ones; None for an unknown rule.

    With "asymmetric", entry 1 of 4 made of 2 lies at 1/2, halfway between the entries 0 and 1.
    """
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


def _axis_matrix(node: OnnxNode, old: int, new: int, rule: _Rule) -> Matrix:
    """Return the matrix, of shape (new, old), that interpolates along one axis."""
    places = [place for k in range(new) if (place := _place(rule.places, k, old, new)) is not None]
    known = rule.nearest in _NEAREST and rule.mode in ("nearest", "linear", "cubic")
    if not places or not known:
        raise node.unsupported(
            f"lipexact does not interpolate by '{rule.mode}', '{rule.places}', '{rule.nearest}'"
        )
    if rule.mode == "nearest":
        return _rows(old, _nearest_weights(node, places, old, new, rule.nearest))
    if rule.mode == "linear":
        return _rows(old, [_linear_weights(place) for place in places])
    return _rows(old, [_cubic_weights(place, rule.cubic) for place in places])


def _nearest_weights(
    node: OnnxNode, places: list[Fraction], old: int, new: int, nearest: str
) -> list[list[tuple[int, float]]]:
    """Return the nearest entry to each place; what runtimes round differently is refused."""
    if nearest == _OLD_NEAREST and new < old and any(place.denominator > 1 for place in places):
        raise node.unsupported(
            "runtimes differ in what nearest means before opset 11; export for a newer one"
        )
    choose, border = _NEAREST[nearest]
    # On a border, rounding decides in every runtime anew, unless the scale is a float.
    scale = Fraction(new, old).denominator
    if scale & (scale - 1) and any(place and (place - border).denominator == 1 for place in places):
        raise node.unsupported(
            "its entries lie on the border between two others, where runtimes round differently"
        )
    return [[(choose(place), 1.0)] for place in places]


def _linear_weights(place: Fraction) -> list[tuple[int, float]]:
    """Return the two entries around a place with their weights: 0.75 and 0.25 at 1/4."""
    first = math.floor(place)
    s = float(place - first)
    return [(first, 1.0 - s), (first + 1, s)]


def _cubic_weights(place: Fraction, a: float) -> list[tuple[int, float]]:
    """Return the four entries around a place with their weights.

    Source: R. Keys, Cubic convolution interpolation for digital image processing (1981), with its
    parameter a.
    """
    first = math.floor(place)
    s = float(place - first)
    near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (s, 1 - s)]
    far = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in (1 + s, 2 - s)]
    return list(zip(range(first - 1, first + 3), (far[0], *near, far[1]), strict=True))


def _rows(old: int, rows: list[list[tuple[int, float]]]) -> Matrix:
    """Return the matrix with the given pairs of entry and weight in each row.

    An entry beyond an end stands for the last one there.
    """
    places = [
        (k, min(max(j, 0), old - 1), weight)
        for k, row in enumerate(rows)
        for j, weight in row
        if weight
    ]
    to, of, weights = zip(*places, strict=True)
    return sp.csr_array(sp.coo_array((weights, (to, of)), shape=(len(rows), old)))
