"""Functionals of a network's output: the symmetric set of the c in c^T f."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lipexact.errors import NormError
from lipexact.numerics.arrays import Vector, floats
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.norms import Norm, norm
from lipexact.sets.polyhedral import Differences, Hull, vertices_of
from lipexact.sets.unit_balls import SymmetricSet


@dataclass(frozen=True)
class CrossLipschitz:
    """The differences f_i - f_j of two outputs, by which a classifier decides between classes.

    For inputs within r of x in the domain, a classifier's decision for the class k at x holds while
    f_k(x) - f_j(x) > r L for all j.

    Parameters
    ----------
    label
        Only the differences f_label - f_j (targeted); None for all pairs (untargeted).

    Notes
    -----
    The cross-Lipschitz constant of Hein and Andriushchenko (NeurIPS 2017). LipMIP's
    `crossLipschitz` maximises over c in [-1, 1]^m instead, which is larger.
    """

    label: int | None = None

    def symmetric_set(self, outputs: int) -> SymmetricSet:
        """Return the hull of the functionals e_i - e_j."""
        if outputs < 2:
            raise NormError("CrossLipschitz needs a network with at least two outputs")
        if self.label is None:
            return Differences(outputs)
        label = _index(self.label, outputs, "CrossLipschitz(label={!r})")
        others = np.delete(np.eye(outputs), label, axis=0)
        return Hull(np.eye(outputs)[label] - others)


Functional: TypeAlias = int | npt.ArrayLike | Domain | CrossLipschitz | None


def functional_set(functional: Functional, output_norm: str | Norm, outputs: int) -> SymmetricSet:
    """Return the symmetric set of functionals c over which the constant of c^T f is maximised.

    Parameters
    ----------
    functional
        An output's index (negative ones count from the end); a vector of shape (m,); a polytope of
        functionals, by its vertices of shape (k, m) or as a
        :class:`~lipexact.sets.domains.Polytope`; :class:`CrossLipschitz`; or None for the whole
        output, measured in `output_norm`: the functionals of dual norm at most 1.
    output_norm
        Only used where the functional is None.
    outputs
        The number m of the network's outputs.

    Returns
    -------
    SymmetricSet

    Raises
    ------
    NormError
        If the functional or the norm does not fit the output, or is not a number.
    """
    if functional is None:
        return norm(output_norm).polar(outputs)
    if isinstance(functional, CrossLipschitz):
        return functional.symmetric_set(outputs)
    if isinstance(functional, Domain):
        return _hull(functional, outputs)
    if isinstance(functional, numbers.Integral) and not isinstance(functional, bool):
        return Hull(np.eye(1, outputs, _index(int(functional), outputs, "functional={}")))
    return Hull(np.atleast_2d(_vectors(functional, outputs)))


def _hull(polytope: Domain, outputs: int) -> SymmetricSet:
    """Return the hull of a polytope of functionals and its reflection."""
    if polytope.dim != outputs:
        raise NormError(
            f"a polytope of functionals in {polytope.dim} dimensions does not fit {outputs} outputs"
        )
    if isinstance(polytope, Reals):
        raise NormError("functionals range over a bounded set, not over Reals")
    if polytope.balls:
        raise NormError("a ball of functionals is not supported; give its vertices as a matrix")
    rows = np.vstack([polytope.rows, np.eye(outputs), -np.eye(outputs)])
    limits = np.concatenate([polytope.limits, polytope.upper, -polytope.lower])
    vertices = vertices_of(rows / (limits - rows @ polytope.centre)[:, None])
    if vertices is None:
        raise NormError(
            "the polytope of functionals may have too many vertices; "
            "give those that matter as a matrix"
        )
    return Hull(vertices + polytope.centre)


def _vectors(functional: object, outputs: int) -> Vector:
    """Check the functionals that are given as an array."""
    if not isinstance(functional, np.ndarray | Sequence) or isinstance(functional, str):
        raise NormError(
            "a functional is an output's index, a vector of numbers, a matrix of them, "
            f"a Polytope, or CrossLipschitz(), not {functional!r}"
        )
    vectors = floats(functional, "the functional", NormError)
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != outputs:
        raise NormError(
            f"a functional of shape {vectors.shape} does not fit {outputs} outputs; "
            f"give a vector of length {outputs}"
        )
    if not np.isfinite(vectors).all():
        raise NormError("the functional has entries that are infinite")
    return vectors


def _index(index: Any, outputs: int, what: str) -> int:
    """Check the index of an output, and return it as one that is not negative."""
    known = isinstance(index, numbers.Integral) and not isinstance(index, bool)
    if not known or not -outputs <= index < outputs:
        raise NormError(f"{what.format(index)} names no output: the network has {outputs}")
    return int(index) % outputs
