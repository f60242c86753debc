"""Robustness of a classifier's decision, certified by its local cross-Lipschitz constant."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from lipexact.api import lipschitz
from lipexact.bounds.interval import point_bounds
from lipexact.errors import DomainError, ModelError, OptionError, SolverError
from lipexact.loading import load
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, floats, summary
from lipexact.numerics.rounding import up
from lipexact.options import OptionKeywords, is_number, takes_options
from lipexact.problem.problem import check_domain
from lipexact.regions.affine import pattern_at
from lipexact.result import LipschitzResult, Termination, Witness
from lipexact.serialise import to_plain
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Box, Polytope
from lipexact.sets.norms import Norm, PolyhedralNorm, norm
from lipexact.solve import prepare_options
from lipexact.state import ProgressCallback

_OWN_OPTIONS = ("gap", "target")  # which decide when a search stops
_HUGE_RADIUS = 1e300  # of a ball that holds every clip
_LARGEST_RADIUS = 2.0**400  # that is tried
_MAX_DOUBLINGS = 60  # of the first radius, as long as everything is certified
_MAX_FACETS = 4096  # of a ball that is taken by its half-spaces, up to sign
_BISECTIONS = 16  # of the step from x to a witness
_SLACK = 1e-12  # for the rounding of r L, relative
# By these the whole search ends.
_BROKEN_OFF = (Termination.INTERRUPTED, Termination.FAILED, Termination.TIME_LIMIT)

_Clip: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike] | None


@dataclass(frozen=True, eq=False)
class RadiusStep:
    """One radius that was tried.

    Attributes
    ----------
    radius
        r.
    certified
        Whether the constant shows that the decision holds within r; None where there was not time
        enough to tell.
    result
        The local constant of the margins, each divided by its value at x, on the ball of that
        radius: certified while `result.upper` is at most 1 / r.
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
        At every input that is closer than this to x, and inside the clip, the network's largest
        output is the same; infinite where that is shown for all of them.
    upper
        No radius above this can be certified by the local Lipschitz constant of its ball (it may be
        so by other means, such as the constants of several nested balls).
    termination
        Why the search stopped: "tolerance", "time limit", "interrupted", "failed", or "largest
        radius", where none was too large to be certified.
    label
        The index of the largest output at x.
    margins
        f_label(x) - f_j(x) for every output j, rounded down; shape (m,).
    steps
        What was tried, in this order, with the result of each.
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
            f"CertifiedRadius(radius={self.radius!r}, upper={self.upper!r}, "
            f"termination={self.termination!r}, label={self.label}, "
            f"margins={summary(self.margins)}, {len(self.steps)} steps, "
            f"seconds={self.seconds:.3g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return strings, numbers, lists and dictionaries.

        Numbers that are not finite are the strings "inf", "-inf" and "nan".
        """
        steps = [
            {"radius": step.radius, "certified": step.certified, "result": step.result.to_dict()}
            for step in self.steps
        ]
        plain: dict[str, Any] = to_plain(replace(self, steps=()))
        return {**plain, "steps": steps}

    def to_json(self, **options: Any) -> str:
        """Return `to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)


@takes_options(
    leave_out=_OWN_OPTIONS,
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
    """Find the largest radius around x for which the local constant certifies the label.

    With the margins g_j = f_k - f_j of the label k, L_j(r) the local constant of g_j on the ball of
    radius r around x, the decision holds on that ball while r L_j(r) <= g_j(x) for all j (Hein and
    Andriushchenko, NeurIPS 2017, Theorem 2.1, with the exact constant). The largest of
    L_j(r) / g_j(x) is one local constant, of a polytope of functionals; r times it grows with r,
    and the search ends where it is 1.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network` with m > 1 outputs.
    x
        One input, of the network's input shape or flat.
    input_norm
        The norm that distances are measured in: "linf", "l1", "l2", or a :class:`PolyhedralNorm`.
        For "l2", the constant is that of a polytope around the ball, so that the radius may come
        out smaller than possible.
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
        Its radius is infinite where no input inside the clip changes the decision. Without a clip
        that is known only of networks without a kink; else the search gives up at some large
        radius, with `upper` infinite.

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
    if not (is_number(tolerance) and 0 < tolerance < 1):
        raise OptionError(f"tolerance must be a number between 0 and 1, not {tolerance!r}")
    if options.keys() & set(_OWN_OPTIONS):
        raise OptionError("certified_radius sets gap and target itself: leave them out")
    time_limit = prepare_options(**options).time_limit
    network = load(model)
    alpha = norm(input_norm)
    center = _point(network, x, domain_clip)
    label, margins = _margins(network, center)
    functionals = _scaled_margins(label, margins)
    search = _RadiusSearch(network, center, alpha, domain_clip, functionals, float(tolerance))
    steps: list[RadiusStep] = []
    while search.termination is None:
        left = None if time_limit is None else time_limit - (time.perf_counter() - start)
        if left is not None and left <= 0:
            search.termination = str(Termination.TIME_LIMIT)
            break
        radius = search.radius
        asked: dict[str, Any] = {**options, "time_limit": left}
        result = lipschitz(
            network,
            _ball(center, radius, alpha, domain_clip),
            input_norm=alpha,
            functional=functionals,
            target=(1 - _SLACK) / radius,
            progress=progress,
            **asked,
        )
        steps.append(RadiusStep(radius, result.within_target, result))
        search.advance(result)
    return CertifiedRadius(
        radius=search.certified,
        upper=max(search.upper, search.certified),
        termination=search.termination,
        label=label,
        margins=margins,
        steps=tuple(steps),
        seconds=time.perf_counter() - start,
    )


class _RadiusSearch:
    """A bisection for the radius r at which r L(r) is 1.

    Parameters
    ----------
    network, center, alpha, clip
        The network, x, the norm of distances, and what inputs are cut to.
    functionals
        Those of the margins, each divided by its value at x, shape (k, m).
    tolerance
        The relative distance of the certified radius to one that is not at which it ends.

    Attributes
    ----------
    certified
        The largest radius that is certified.
    upper
        No radius above this can be certified.
    tried
        The smallest radius that was tried and not certified: none above is tried again.
    radius
        What to try next.
    termination
        Why the search ended; None while it has not.
    """

    def __init__(
        self,
        network: Network,
        center: Vector,
        alpha: Norm,
        clip: _Clip,
        functionals: Vector,
        tolerance: float,
    ) -> None:
        self.network = network
        self.center = center
        self.length = alpha.polar(center.size)
        self.tolerance = tolerance
        self.certified = 0.0
        self.upper = np.inf
        self.tried = np.inf
        self.termination: str | None = None
        self.turns = 0
        self.radius_of_all = _radius_of_all(center, alpha, clip)
        gradients = functionals @ network.jacobian(center)
        slope = float(alpha.ball(center.size).support(gradients).max())
        # With the slope at x on the whole ball, twice this radius would be certified.
        guess = 0.5 / slope if slope > 0.5 / _LARGEST_RADIUS else 1.0
        self.radius = min(guess, self.radius_of_all)
        self.largest = min(self.radius * 2.0**_MAX_DOUBLINGS, _LARGEST_RADIUS)
        self._end_within_tolerance()

    def advance(self, result: LipschitzResult) -> None:
        """Take the constant on the ball of `radius`, and choose the next radius or end."""
        self.turns += 1
        self._update_certified(result)
        if result.within_target is None and result.termination in _BROKEN_OFF:
            self.termination = str(result.termination)
            return
        if not result.within_target:
            self.tried = min(self.tried, self.radius)
        if result.within_target is False:
            self._update_upper(result)
        is_constant = result.upper == 0 and not self.network.gates
        if self.certified >= self.radius_of_all or is_constant:
            self.certified = np.inf
        self.radius = min(self._next_radius(), self.radius_of_all)
        if self.radius > self.largest:
            self.termination = "largest radius"
        else:
            self._end_within_tolerance()

    def _update_certified(self, result: LipschitzResult) -> None:
        """Certify the radius at which r times the upper bound is 1; within the ball, it holds."""
        radius = self.radius
        # The constant on a smaller ball is no larger.
        shown = min(radius, (1 - _SLACK) / result.upper) if result.upper > 0 else radius
        self.certified = max(self.certified, shown)

    def _update_upper(self, result: LipschitzResult) -> None:
        """Exclude radii whose balls hold the witness: the constant on them is no smaller."""
        if result.witness is None:
            # Not reached: a larger bound has a witness.
            raise SolverError("a bound of 0 is above the target")
        step = _step_into(self.network, self.center, result.witness)
        away = float(self.length.support(step[None, :])[0])
        self.upper = min(self.upper, max(away, 1 / result.lower))
        self.tried = min(self.tried, self.upper)

    def _next_radius(self) -> float:
        """Return twice the certified radius, the middle to the one tried, or a little below that.

        The constant may be the same still a little below the radius that was tried, which ends the
        search; every other turn that is tried.
        """
        if np.isinf(self.tried):
            return 2 * self.certified
        middle = (self.certified + self.tried) / 2
        near = self.tried * (1 - self.tolerance / 2)
        return near if self.turns % 2 == 0 and middle < near < self.tried else middle

    def _end_within_tolerance(self) -> None:
        """End where what is certified and what is not are near enough."""
        wanted = self.tolerance * (0.0 if np.isinf(self.tried) else self.tried)
        is_open = self.certified < self.radius < self.tried
        if not (is_open and self.tried - self.certified > wanted):
            self.termination = "tolerance"


def _scaled_margins(label: int, margins: Vector) -> Vector:
    """Return the functionals of the margins, each divided by its value at x; shape (m - 1, m).

    Examples
    --------
    With the label 0 and a margin of 2 to the other output, it is (f_0 - f_1) / 2:

    >>> _scaled_margins(0, np.array([0.0, 2.0])).tolist()
    [[0.5, -0.5]]
    """
    others = np.delete(np.arange(margins.size), label)
    identity = np.eye(margins.size)
    scaled: Vector = (identity[label] - identity[others]) / margins[others, None]
    return scaled


def _step_into(network: Network, center: Vector, witness: Witness) -> Vector:
    """Return a short step from x to a point in the interior of the witness's region."""
    step = witness.point - center
    # Shares of the step to the witness: x itself is looked at first.
    outside = 0.0
    inside = 1.0
    share = 0.0
    for _ in range(_BISECTIONS):
        pattern = pattern_at(network, center + share * step)
        if pattern is not None and all(map(np.array_equal, pattern, witness.pattern)):
            inside = share
        else:
            outside = share
        share = (outside + inside) / 2
    return inside * step


def _ball(center: Vector, radius: float, alpha: Norm, clip: _Clip) -> Domain:
    """Return a domain that holds the ball of a norm, cut to the clip.

    It is the ball itself, but for l2 and for norms with too many facets.
    """
    ball = _whole_ball(center, radius, alpha)
    if clip is None:
        return ball
    lo, hi = _sides(clip)
    return ball & Box(np.maximum(ball.lower, lo), np.minimum(ball.upper, hi))


def _whole_ball(center: Vector, radius: float, alpha: Norm) -> Domain:
    """Return a domain that holds the ball of a norm."""
    n = center.size
    if alpha.name == "l1":
        return Ball(center, radius, norm="l1")
    if alpha.name == "linf":
        return _box(center, np.full(n, radius))
    if alpha.name == "l2":
        box = _box(center, np.full(n, radius))
        return box & Ball(center, radius * np.sqrt(n) * (1 + 1e-15), norm="l1")
    return _polyhedral_ball(center, radius, alpha)


def _polyhedral_ball(center: Vector, radius: float, alpha: Norm) -> Domain:
    """Return the ball of a polyhedral norm by its half-spaces; a box where these are too many."""
    n = center.size
    box = _box(center, radius * alpha.ball(n).support_upper(np.eye(n)) * (1 + 1e-12))
    polar = alpha.polar(n)  # whose vertices are the ball's half-spaces
    if polar.vertex_count > _MAX_FACETS:
        return box
    facets = np.vstack(list(polar.vertices()))
    facets = facets[np.count_nonzero(facets, axis=1) > 1]  # the others are sides of the box
    both = np.vstack([facets, -facets])
    limits = up(both @ center, np.abs(both) @ np.abs(center), n) + radius * (1 + 1e-12)
    return Polytope(both, limits, box.lower, box.upper) if both.size else box


def _box(center: Vector, reach: Vector) -> Box:
    """Return a box, rounded outward."""
    return Box(np.nextafter(center - reach, -np.inf), np.nextafter(center + reach, np.inf))


def _radius_of_all(center: Vector, alpha: Norm, clip: _Clip) -> float:
    """Return the radius of a ball that holds all that the clip leaves."""
    if clip is None:
        return np.inf
    lo, hi = _sides(clip)
    reach = np.maximum(center - lo, hi - center)
    length = alpha.polar(center.size)
    if not np.isfinite(reach).all():
        return np.inf
    if isinstance(alpha, PolyhedralNorm):  # which may not grow with every entry
        return float(reach @ length.support_upper(np.eye(center.size))) * (1 + 1e-9)
    return float(length.support(reach[None, :])[0]) * (1 + 1e-9)


def _sides(clip: tuple[npt.ArrayLike, npt.ArrayLike]) -> tuple[Vector, Vector]:
    """Return both ends of a clip as vectors, of shape (d,) or (1,)."""
    lo, hi = (np.asarray(side, dtype=np.float64).ravel() for side in clip)
    return lo, hi


def _margins(network: Network, center: Vector) -> tuple[int, Vector]:
    """Return the label and f_label - f_j at x, rounded down.

    Raises
    ------
    ModelError
    """
    if network.output.size < 2:
        raise ModelError("a classifier has at least two outputs; this network has one")
    lower, upper = point_bounds(network.graph.nodes, network.input, center)[network.output]
    label = int(np.argmax(lower))
    margins = np.nextafter(lower[label] - upper, -np.inf)
    margins[label] = 0.0
    if not (np.delete(margins, label) > 0).all():
        told = "two of the largest outputs at x are equal, up to rounding"
        raise ModelError(f"{told}: no label is predicted there")
    return label, margins


def _point(network: Network, x: npt.ArrayLike, clip: _Clip) -> Vector:
    """Return x as a vector, shape (d,).

    Raises
    ------
    DomainError
        If it does not fit the network, or lies outside of the clip.
    """
    point = floats(x, "x", DomainError)
    if point.size != network.input.size or not np.isfinite(point).all():
        raise DomainError(
            f"x must be {network.input.size} finite numbers (shape {network.input_shape})"
        )
    check_domain(network, Ball(point, _HUGE_RADIUS, clip=clip))  # checks its axes, and the clip
    point = point.ravel()
    if clip is not None:
        lo, hi = _sides(clip)
        if (point < lo).any() or (point > hi).any():
            raise DomainError("x lies outside of domain_clip")
    return point
