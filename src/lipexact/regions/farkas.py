"""Proofs in floating point that the conditions of a pattern exclude each other.

Farkas' lemma: multipliers w >= 0, not all 0, for which sum_i w_i (G_i y + g_i) <= 0 on the whole
box show that no y of the box has G_i y + g_i > 0 for all i. A linear program returns such
multipliers up to rounding. What is proven here is that multipliers near them have the property
exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipexact.graph.ir import Affine
from lipexact.graph.pattern import Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, most_terms
from lipexact.numerics.lp import Slack, System
from lipexact.numerics.rounding import SMALLEST, gamma, smallest
from lipexact.regions import constants
from lipexact.regions.affine import affine_forms
from lipexact.regions.conditions import SignConditions, sign_conditions


def contradicting_rows(
    network: Network, system: System, conditions: SignConditions, pattern: Pattern, solution: Slack
) -> list[int] | None:
    """Return conditions that exclude each other, if floating-point arithmetic can prove it.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    system
        Of the domain.
    conditions
        Of the pattern, in floats.
    pattern
        The gates' states.
    solution
        Approximate multipliers of the conditions, and the coordinates in which the weighted slopes
        cancel.

    Returns
    -------
    list of int or None
        Indices of conditions with positive multipliers; None where nothing could be proven.

    Notes
    -----
    In coordinates where the weighted slopes cancel, their sum is 0 up to rounding in the computed
    multipliers w. If the columns of these coordinates are independent, there is a w' near w for
    which the sums are exactly 0; :func:`_shift_to_cancel` bounds |w' - w|. If all w' are positive,
    they are valid multipliers, and it remains to bound the sum in the other coordinates.

    For example, x / 3 > 0 and -x - 1 > 0 exclude each other, by the multipliers 3 and 1. The float
    next to 1/3 is (1 - 2^-54) / 3, so that 3 and 1 leave a slope of -2^-54. Exact cancellation
    needs the multiplier 3 / (1 - 2^-54) instead, which differs from 3 by 2e-16. With every
    multiplier within 1e-14 of its computed value, the sum of the constants stays below
    -1 + 1e-14 <= 0, which is the proof; the slope need not be considered any more.
    """
    errors = _rounding_errors(network, system, pattern)
    if errors is None:
        return None
    # Conditions that may be 0 everywhere contribute nothing.
    certain = (np.abs(conditions.linear) > errors.linear).any(axis=1)
    certain |= np.abs(conditions.constant) > errors.constant
    threshold = constants.NEGLIGIBLE_MULTIPLIER * solution.weights.max(initial=0.0)
    support = np.flatnonzero((solution.weights > threshold) & certain)
    if not support.size:
        return None
    weights = solution.weights[support]
    linear = conditions.linear[support]
    constant = conditions.constant[support]
    errors = _Errors(errors.linear[support], errors.constant[support])
    cancelled = solution.cancelled
    shift: Vector | None = np.zeros(support.size)
    if cancelled.any():
        shift = _shift_to_cancel(weights, linear[:, cancelled], errors.linear[:, cancelled])
    if shift is None or (shift >= weights).any():
        return None
    largest = _largest_sum(system, weights, shift, linear, constant, errors, ~cancelled)
    return support.tolist() if largest <= 0 else None


@dataclass(frozen=True, eq=False)
class _Errors:
    """Bounds of the rounding errors in the conditions' slopes and constants."""

    linear: Vector
    constant: Vector


def _rounding_errors(network: Network, system: System, pattern: Pattern) -> _Errors | None:
    """Bound the rounding errors of the conditions' entries; None where underflow may add to these.

    Each entry is a sum of products along the paths through the network. Its error is at most
    gamma_n times the sum of the products' absolute values, for n operations on the longest path.
    """
    affine = [node for node in network.graph.nodes if isinstance(node, Affine)]
    weights = [weight for node in affine for weight, _ in node.terms]
    biases = [node.bias[None, :] for node in affine]
    if math.prod(map(smallest, weights)) * min(map(smallest, biases), default=1.0) < SMALLEST:
        return None
    unit = gamma(sum(most_terms(weight) + 2 for weight in weights))
    forms = affine_forms(network, pattern, absolute=True)
    sizes = sign_conditions(network, system, forms, pattern)
    return _Errors(unit * np.abs(sizes.linear), unit * np.abs(sizes.constant))


def _shift_to_cancel(weights: Vector, columns: Vector, errors: Vector) -> Vector | None:
    """Bound how far the multipliers are from others that cancel given columns exactly.

    Let M be the transpose of the true columns, R an approximate right inverse, and r = -M w the
    residual. If |M R - I| <= q < 1 in the row sum norm, M R is invertible, and the multipliers
    w' = w + R (M R)^-1 r solve M w' = 0. Entry i of w' - w is at most
    sum_j |R_ij| max |r| / (1 - q).

    Parameters
    ----------
    weights
        w, shape (k,).
    columns, errors
        The computed columns, shape (k, c), and what they may be off.

    Returns
    -------
    Vector or None
        Shape (k,); None where M may be singular.
    """
    lost = gamma(weights.size + 2)
    inverse = np.linalg.pinv(columns.T)
    uncertainty = lost * np.abs(columns) + errors
    deviation = np.abs(columns.T @ inverse - np.eye(columns.shape[1]))
    deviation += uncertainty.T @ np.abs(inverse) + lost
    distance = float(deviation.sum(axis=1).max())
    if not distance < 0.5:
        return None
    residual = np.abs(weights @ columns) + weights @ uncertainty
    return np.asarray(
        np.abs(inverse).sum(axis=1)
        * (float(residual.max()) / (1 - distance))
        * (1 + gamma(sum(columns.shape) + 8))
    )


def _largest_sum(
    system: System,
    weights: Vector,
    shift: Vector,
    linear: Vector,
    constant: Vector,
    errors: _Errors,
    coordinates: npt.NDArray[np.bool_],
) -> float:
    """Return an upper bound of the weighted sum of conditions on the box.

    It holds for all multipliers within `shift` of `weights`, and counts the slopes in the chosen
    coordinates only; those in the others are exactly 0.
    """
    lost = gamma(weights.size + 2)
    chosen = linear[:, coordinates]
    slopes = weights @ chosen
    sizes = np.abs(chosen)
    slope_errors = errors.linear[:, coordinates]
    uncertainty = weights @ (slope_errors + lost * sizes) + shift @ (sizes + slope_errors)
    uncertainty = uncertainty * (1 + lost)
    # A linear function on a box, with slopes in an interval, is largest at one of four products.
    products = np.stack(
        [
            slope * bound
            for slope in (slopes - uncertainty, slopes + uncertainty)
            for bound in (system.lower[coordinates], system.upper[coordinates])
        ]
    )
    most = products.max(axis=0)
    total = float(most.sum() + weights @ constant)
    size = float(np.abs(most).sum() + weights @ np.abs(constant))
    extra = float(weights @ errors.constant + shift @ (np.abs(constant) + errors.constant))
    return total + extra * (1 + lost) + gamma(sum(linear.shape) + 4) * size
