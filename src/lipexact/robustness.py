"""Robustness of a classifier's decision, certified by its local cross-Lipschitz constant."""

from __future__ import annotations

import json
import numbers
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from lipexact.api import lipschitz
from lipexact.bounds.interval import point_bounds
from lipexact.errors import DomainError, ModelError, OptionError, SolverError
from lipexact.loading import load
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, floats
from lipexact.numerics.rounding import up
from lipexact.options import OptionKeywords, takes_options
from lipexact.problem.problem import check_domain
from lipexact.regions.affine import pattern_at
from lipexact.result import LipschitzResult, Witness
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Box, Polytope
from lipexact.sets.norms import Norm, PolyhedralNorm, norm
from lipexact.solve import prepare_options
from lipexact.state import ProgressCallback

_LARGE = 1e300  # a radius that holds every clip
_DOUBLINGS = 60  # of a radius at which everything is still certified
_MOST_FACETS = 4096  # of a ball that is taken by its half-spaces, up to sign
_HALVINGS = 16  # of the way to a witness
_LARGEST = 2.0**400  # radius
_BROKEN_OFF = ("interrupted", "failed", "time limit")  # by these the whole search ends
_SLACK = 1e-12  # for the rounding of r L, relative


@dataclass(frozen=True, eq=False)
class RadiusStep:
    """One radius that was tried.

    Attributes
    ----------
    radius
        r.
    certified
        Whether the constant shows that the decision holds within r; None where the time did not do to tell.
    result
        The local constant of the margins, each divided by its value at x, on the ball of that radius: certified
        while `result.upper` is at most 1 / r.
    """

    radius: float
    certified: bool | None
    result: LipschitzResult


@dataclass(frozen=True, eq=False)
class CertifiedRadius:
    """How far an input may move before the decision may change.

    Attributes
    ----------
    radius
        At every input that is closer than this to x, and inside the clip, the network's largest output is the same;
        infinite where that is shown for all of them.
    upper
        No radius above this can be certified by the local Lipschitz constant of its ball (it may be so by other means,
        such as the constants of several nested balls).
    termination
        Why the search stopped: "tolerance", "time limit", "interrupted", "failed", or "largest radius", where none was
        too large to be certified.
    label
        The index of the largest output at x.
    margins
        f_label(x) - f_j(x) for every output j, rounded down; shape (m,).
    steps
        What was tried, in this order, with the certificate of each.
    seconds
        Wall-clock time of the whole call.
    """

    radius: float
    upper: float
    termination: str
    label: int
    margins: npt.NDArray[np.float64]
    steps: tuple[RadiusStep, ...]
    seconds: float

    def __repr__(self) -> str:
        return (
            f"CertifiedRadius(radius={self.radius!r}, upper={self.upper!r}, termination={self.termination!r}, "
            f"label={self.label}, "
            f"{len(self.steps)} steps, seconds={self.seconds:.3g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, lists and dictionaries; None for an infinite radius, which JSON has not."""
        return {
            "radius": self.radius if np.isfinite(self.radius) else None,
            "upper": self.upper if np.isfinite(self.upper) else None,
            "termination": self.termination,
            "label": self.label,
            "margins": self.margins.tolist(),
            "seconds": self.seconds,
            "steps": [
                {
                    "radius": step.radius,
                    "certified": step.certified,
                    "result": step.result.to_dict(),
                }
                for step in self.steps
            ],
        }

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)


@takes_options(
    leave_out=("gap", "target"),
    instead={"time_limit": "Seconds of wall-clock time for the whole search; None for no limit."},
)
def certified_radius(
    model: str | os.PathLike[str] | Network | Any,
    x: npt.ArrayLike,
    *,
    input_norm: str | Norm = "linf",
    domain_clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    tolerance: float = 1e-3,
    progress: bool | ProgressCallback = False,
    **options: Unpack[OptionKeywords],
) -> CertifiedRadius:
    """Find the largest radius around x for which the local Lipschitz constant certifies the predicted label.

    With the margins g_j = f_k - f_j of the label k, L_j(r) the local constant of g_j on the ball of radius r around
    x, the decision holds on that ball while r L_j(r) <= g_j(x) for all j (Hein and Andriushchenko, NeurIPS 2017,
    Theorem 2.1, with the exact constant). The largest of L_j(r) / g_j(x) is one local constant, of a polytope of
    functionals; r times it grows with r, and the search ends where it is 1.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network` with m > 1 outputs.
    x
        One input, of the network's input shape or flat.
    input_norm
        The norm that distances are measured in: "linf", "l1", "l2", or a :class:`PolyhedralNorm`. For "l2", the
        constant is that of a polytope around the ball, so that the radius may come out smaller than possible.
    domain_clip
        A pair (lo, hi) of numbers or arrays: inputs outside do not count, as for pixels.
    tolerance
        Stop when what is certified and what is not are apart by at most this share of the radius.
    progress
        As for :func:`lipschitz`.
    **options
        As for :func:`lipschitz`.

    Returns
    -------
    CertifiedRadius
        Its radius is infinite where no input inside the clip changes the decision. Without a clip that is known only of
        networks without a kink; else the search gives up at some large radius, with `upper` infinite.

    Raises
    ------
    ModelError
        If the network has one output, or two of the largest outputs at x are equal.
    DomainError
        If x does not fit the network, or lies outside of `domain_clip`.
    NormError, OptionError, SolverUnavailableError, SolverError, UnsupportedOperatorError
        As for :func:`lipschitz`.
    """
    start = time.perf_counter()
    if (
        not isinstance(tolerance, numbers.Real)
        or isinstance(tolerance, bool)
        or not 0 < tolerance < 1
    ):
        raise OptionError(f"tolerance must be a number between 0 and 1, not {tolerance!r}")
    if options.keys() & {"gap", "target"}:
        raise OptionError("certified_radius sets gap and target itself: leave them out")
    time_limit = prepare_options(**options).time_limit
    network, alpha = load(model), norm(input_norm)
    center = _point(network, x, domain_clip)
    label, margins = _margins(network, center)
    others = np.delete(np.arange(margins.size), label)
    rows = (np.eye(margins.size)[label] - np.eye(margins.size)[others]) / margins[others, None]
    length = alpha.polar(center.size)

    # Certified up to `least`; not to be certified above `most`, and not tried again above `tried`.
    least, most, tried = 0.0, np.inf, np.inf
    steps: list[RadiusStep] = []
    termination = "tolerance"
    slope = float(alpha.ball(center.size).support(rows @ network.jacobian(center)).max())
    everything = _radius_of_all(center, alpha, domain_clip)
    first = min(0.5 / slope if slope > 0.5 / _LARGEST else 1.0, everything)
    radius, largest = first, min(first * 2.0**_DOUBLINGS, _LARGEST)
    while least < radius < tried and tried - least > float(tolerance) * (
        0.0 if np.isinf(tried) else tried
    ):
        left = None if time_limit is None else time_limit - (time.perf_counter() - start)
        if left is not None and left <= 0:
            termination = "time limit"
            break
        result = lipschitz(
            network,
            _ball(center, radius, alpha, domain_clip),
            input_norm=alpha,
            functional=rows,
            target=(1 - _SLACK) / radius,
            progress=progress,
            **{**options, "time_limit": left},
        )
        steps.append(RadiusStep(radius, result.within_target, result))
        # The constant on a smaller ball is no larger.
        least = max(least, min(radius, (1 - _SLACK) / result.upper) if result.upper > 0 else radius)
        if result.within_target is None and result.termination in _BROKEN_OFF:
            termination = result.termination
            break
        if not result.within_target:
            tried = min(tried, radius)
        if result.within_target is False:
            # It is no smaller on any ball that holds the witness.
            if result.witness is None:
                raise SolverError(
                    "a bound of 0 is above the target"
                )  # not reached: a larger bound has a witness
            away = float(length.support(_step_into(network, center, result.witness)[None, :])[0])
            most = min(most, max(away, 1 / result.lower))
            tried = min(tried, most)
        if least >= everything or (result.upper == 0 and not network.gates):
            least = np.inf
        radius = min(_next(least, tried, float(tolerance), len(steps)), everything)
        if radius > largest:
            termination = "largest radius"
            break
    seconds = time.perf_counter() - start
    return CertifiedRadius(
        least, max(most, least), termination, label, margins, tuple(steps), seconds
    )


def _step_into(network: Network, center: Vector, witness: Witness) -> Vector:
    """A short step from x to a point in the interior of the witness's region."""
    step, outside, inside = witness.point - center, 0.0, 1.0
    share = 0.0  # of the step to the witness; x itself is looked at first
    for _ in range(_HALVINGS):
        found = pattern_at(network, center + share * step)
        if found is not None and all(
            np.array_equal(a, b) for a, b in zip(found, witness.pattern, strict=True)
        ):
            inside = share
        else:
            outside = share
        share = (outside + inside) / 2
    return inside * step


def _next(least: float, most: float, tolerance: float, turn: int) -> float:
    """The radius to try: a little below the upper bound, at which the constant may be the same still, or the middle."""
    if np.isinf(most):
        return 2 * least
    middle, near = (least + most) / 2, most * (1 - tolerance / 2)
    return near if turn % 2 == 0 and middle < near < most else middle


def _ball(
    center: Vector, radius: float, alpha: Norm, clip: tuple[npt.ArrayLike, npt.ArrayLike] | None
) -> Domain:
    """A domain that holds the ball of a norm; the ball itself, but for l2 and for norms with too many facets."""
    n = center.size
    if alpha.name == "l1":
        ball: Domain = Ball(center, radius, norm="l1")
    elif alpha.name == "linf":
        ball = _box(center, np.full(n, radius))
    elif alpha.name == "l2":
        ball = _box(center, np.full(n, radius)) & Ball(
            center, radius * np.sqrt(n) * (1 + 1e-15), norm="l1"
        )
    else:
        body = alpha.ball(n)
        ball = _box(center, radius * body.support_upper(np.eye(n)) * (1 + 1e-12))
        polar = alpha.polar(n)  # whose vertices are the ball's half-spaces
        if polar.vertex_count <= _MOST_FACETS:
            facets = np.vstack(list(polar.vertices()))
            facets = facets[np.count_nonzero(facets, axis=1) > 1]  # the others are sides of the box
            both = np.vstack([facets, -facets])
            limits = up(both @ center, np.abs(both) @ np.abs(center), n) + radius * (1 + 1e-12)
            ball = Polytope(both, limits, ball.lower, ball.upper) if both.size else ball
    if clip is None:
        return ball
    lo, hi = _sides(clip)
    return ball & Box(np.maximum(ball.lower, lo), np.minimum(ball.upper, hi))


def _box(center: Vector, reach: Vector) -> Box:
    return Box(np.nextafter(center - reach, -np.inf), np.nextafter(center + reach, np.inf))


def _radius_of_all(
    center: Vector, alpha: Norm, clip: tuple[npt.ArrayLike, npt.ArrayLike] | None
) -> float:
    """The radius of a ball that holds all that the clip leaves."""
    if clip is None:
        return np.inf
    lo, hi = _sides(clip)
    reach, length = np.maximum(center - lo, hi - center), alpha.polar(center.size)
    if not np.isfinite(reach).all():
        return np.inf
    if isinstance(alpha, PolyhedralNorm):  # which may not grow with every entry
        return float(reach @ length.support_upper(np.eye(center.size))) * (1 + 1e-9)
    return float(length.support(reach[None, :])[0]) * (1 + 1e-9)


def _sides(clip: tuple[npt.ArrayLike, npt.ArrayLike]) -> tuple[Vector, Vector]:
    lo, hi = (np.asarray(side, dtype=np.float64).ravel() for side in clip)
    return lo, hi


def _margins(network: Network, center: Vector) -> tuple[int, Vector]:
    """The label and f_label - f_j at x, rounded down."""
    if network.output.size < 2:
        raise ModelError("a classifier has at least two outputs; this network has one")
    lower, upper = point_bounds(network.graph.nodes, network.input, center)[network.output]
    label = int(np.argmax(lower))
    margins = np.nextafter(lower[label] - upper, -np.inf)
    margins[label] = 0.0
    if not (np.delete(margins, label) > 0).all():
        raise ModelError(
            "two of the largest outputs at x are equal, up to rounding: no label is predicted there"
        )
    return label, margins


def _point(
    network: Network, x: npt.ArrayLike, clip: tuple[npt.ArrayLike, npt.ArrayLike] | None
) -> Vector:
    point = floats(x, "x", DomainError)
    if point.size != network.input.size or not np.isfinite(point).all():
        raise DomainError(
            f"x must be {network.input.size} finite numbers (shape {network.input_shape})"
        )
    check_domain(network, Ball(point, _LARGE, clip=clip))  # checks its axes, and the clip
    point = point.ravel()
    if clip is not None:
        lo, hi = _sides(clip)
        if (point < lo).any() or (point > hi).any():
            raise DomainError("x lies outside of domain_clip")
    return point
