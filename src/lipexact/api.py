"""The public functions: each is a straight line through the floors below."""

from __future__ import annotations

import numbers
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lipexact.bounds.interval import Bounds, point_bounds
from lipexact.bounds.linear import bound
from lipexact.domains import Box
from lipexact.errors import DomainError, ModelError, OptionError
from lipexact.functionals import functional_vector
from lipexact.mip.compose import Composition, compose
from lipexact.mip.search import Bracket, narrow
from lipexact.mip.solvers import Progress, SolveOptions, require_solver
from lipexact.network import Network
from lipexact.norms import norm
from lipexact.onnx.reader import read_onnx
from lipexact.pattern import ON
from lipexact.primal import best_region
from lipexact.problem import DerivativeMode, Problem, lipschitz_problem
from lipexact.regions import Region, affine_forms
from lipexact.result import LipschitzResult, Status, Witness, closed

Mode = Literal["auto", "forward", "reverse"]
Method = Literal["auto", "mip"]

_MODES: tuple[DerivativeMode, ...] = ("reverse", "forward")


@dataclass(frozen=True, eq=False)
class _Question:
    """A problem in the chosen mode, the bounds of its graph, and what is known before any program is solved."""

    problem: Problem
    bounds: Bounds
    bracket: Bracket


def load(model: str | os.PathLike[str] | Any) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    model
        A path, or an ``onnx.ModelProto``.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If the file is missing, corrupt, or not a network with one input and one output.
    UnsupportedOperatorError
        If it has an operator, attribute or opset that is not supported.
    """
    return model if isinstance(model, Network) else read_onnx(model)


def lipschitz(
    model: str | os.PathLike[str] | Network | Any,
    domain: Box,
    *,
    input_norm: str = "linf",
    output_norm: str | None = None,
    functional: int | npt.ArrayLike | None = None,
    method: Method = "auto",
    solver: str = "highs",
    mode: Mode = "auto",
    time_limit: float | None = None,
    gap: float = 0.0,
    threads: int | None = None,
    progress: bool | Callable[[Progress], None] = False,
    solver_options: Mapping[str, Any] | None = None,
) -> LipschitzResult:
    """The exact local Lipschitz constant of a network's functional on a domain.

    For f: R^d -> R^m, the functional c and the input norm alpha, it is::

        L = sup |c f(x) - c f(y)| / ||x - y||_alpha  over x != y in X
          = max ||J^T c||_alpha*  over the linear regions of f whose interior meets X

    (Jordan and Dimakis, NeurIPS 2020, Theorem 1; here without their condition of general position).

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network`.
    domain
        X: a :class:`Box` or :class:`Ball` of the network's input dimension.
    input_norm
        alpha: "linf" or "l1".
    output_norm
        Only the absolute value is supported, which every norm is on one output.
    functional
        c: the index of an output, or a vector of shape (m,). None if the network has one output.
    method
        "mip", or "auto", which picks it.
    solver
        "highs", "scip", "cbc" or "gurobi".
    mode
        How the derivative is encoded: "forward" as max c J v over directions v, "reverse" as ||J^T c||, "auto"
        by an estimate of the cost.
    time_limit
        Seconds of wall-clock time for the whole call; None for no limit. Solvers overstay at times.
    gap
        Stop as soon as (upper - lower) / upper is at most this.
    threads
        For the solver; None leaves it to the solver.
    progress
        True prints a line now and then to stderr; a function is called with a
        :class:`~lipexact.mip.solvers.Progress`, incumbent and bound in the constant's own units.
    solver_options
        Passed through under the solver's own names.

    Returns
    -------
    LipschitzResult
        EXACT with the constant, or BOUNDED with an interval that holds it, and a witness.

    Raises
    ------
    ModelError, UnsupportedOperatorError
        If the network cannot be read.
    DomainError
        If the domain does not fit the network.
    NormError
        If a norm or the functional does not fit.
    OptionError
        If an option is not valid.
    SolverUnavailableError
        If the solver is not installed, or its licence too small.
    SolverError
        If the solver breaks down.
    """
    start = time.perf_counter()
    options = _options(method, mode, solver, time_limit, gap, threads, solver_options)
    deadline = start + (np.inf if time_limit is None else time_limit)
    network = load(model)
    read_seconds = time.perf_counter() - start
    question = _question(network, domain, input_norm, output_norm, functional, mode, deadline)
    bracket = question.bracket
    bracket.stats["read_seconds"] = read_seconds
    if not closed(bracket.lower, bracket.upper, gap):
        report = _reporter(progress, start, bracket)
        bracket = narrow(
            question.problem, domain, question.bounds, bracket, solver, options, deadline=deadline, on_progress=report
        )
    return _result(question.problem, domain, bracket, solver, gap, time.perf_counter() - start)


def build(
    model: str | os.PathLike[str] | Network | Any,
    domain: Box,
    *,
    input_norm: str = "linf",
    output_norm: str | None = None,
    functional: int | npt.ArrayLike | None = None,
    mode: Mode = "auto",
) -> Composition:
    """The Pyomo model behind :func:`lipschitz`, to be solved or embedded in a model of one's own.

    Its optimum is an upper bound of the constant: equal to it for networks in general position, and else to be
    certified, as :func:`lipschitz` does. The network's output is part of the model.

    Parameters
    ----------
    model, domain, input_norm, output_norm, functional, mode
        As for :func:`lipschitz`.

    Returns
    -------
    Composition
        With the ``pyomo.environ.ConcreteModel`` as `model`.

    Raises
    ------
    ModelError, UnsupportedOperatorError, DomainError, NormError, OptionError
        As for :func:`lipschitz`.
    """
    question = _question(load(model), domain, input_norm, output_norm, functional, mode, np.inf, keep_output=True)
    return compose(question.problem, question.bounds)


def _question(
    network: Network,
    domain: Box,
    input_norm: str,
    output_norm: str | None,
    functional: int | npt.ArrayLike | None,
    mode: Mode,
    deadline: float,
    *,
    keep_output: bool = False,
) -> _Question:
    if not isinstance(domain, Box):
        raise DomainError(f"the domain must be a Box or a Ball, not {type(domain).__name__}; every input needs limits")
    if domain.dim != network.input.size:
        raise DomainError(
            f"the domain has {domain.dim} dimensions, the network's input {network.input.size} "
            f"(shape {network.input_shape})"
        )
    _check_mode(mode)
    c, alpha = functional_vector(functional, output_norm, network.output.size), norm(input_norm)
    start = time.perf_counter()
    asked: dict[DerivativeMode, tuple[Problem, Bounds]] = {}
    for each in _MODES:
        with np.errstate(over="ignore", invalid="ignore"):
            problem = lipschitz_problem(network, domain, c, alpha, each, keep_output=keep_output)
            bounds = bound(problem.graph, problem.sets)
        if not all(np.isfinite(side).all() for sides in bounds.values() for side in sides):
            raise ModelError("the network's numbers overflow on this domain; scale its weights or inputs")
        asked[each] = problem, bounds
    upper = max(min(_root(*both) for both in asked.values()), 0.0)
    bounds_seconds = time.perf_counter() - start
    lower, region = best_region(network, domain, c, alpha, deadline=deadline) or (0.0, None)
    # The bound may lie below the attained value by what rounding does to that value.
    bracket = Bracket(lower, max(upper, lower), region)
    bracket.stats["bounds_seconds"] = bounds_seconds
    bracket.stats["primal_seconds"] = time.perf_counter() - start - bounds_seconds
    chosen = min(_MODES, key=lambda each: _cost(*asked[each], lower)) if mode == "auto" else mode
    return _Question(*asked[chosen], bracket)


def _root(problem: Problem, bounds: Bounds) -> float:
    return float(bounds[problem.objective][1][0])


def _cost(problem: Problem, bounds: Bounds, lower: float) -> float:
    """An estimate of the size of the search tree's logarithm: open gates, by how far the bounds are apart.

    Measured with HiGHS on some thirty networks, the mode with the smaller product is the faster one, but where the
    two are close (docs, "Forward and reverse mode").
    """
    open_gates = sum(int((bounds[gate][0] != bounds[gate][1]).sum()) for gate in problem.graph.gates)
    root = _root(problem, bounds)
    return open_gates * float(np.log(max(root / lower, 1.0))) if lower > 0 else float(open_gates)


def _result(
    problem: Problem, domain: Box, bracket: Bracket, solver: str, gap: float, seconds: float
) -> LipschitzResult:
    exact = closed(bracket.lower, bracket.upper)
    if exact:
        bracket.termination = "optimal"
    elif closed(bracket.lower, bracket.upper, gap):
        bracket.termination = "gap"
    return LipschitzResult(
        lower=bracket.lower,
        upper=bracket.upper,
        status=Status.EXACT if exact else Status.BOUNDED,
        termination=bracket.termination,
        proof=bracket.proof,
        witness=None if bracket.region is None else _witness(problem, domain, bracket.region),
        method="mip",
        mode=problem.mode,
        solver=solver,
        seconds=seconds,
        stats=bracket.stats,
    )


def _witness(problem: Problem, domain: Box, region: Region) -> Witness:
    network = problem.network
    forms = affine_forms(network, region.pattern)
    jacobian = np.asarray(forms[network.output][0], dtype=np.float64)
    point = region.point.astype(np.float64)
    return Witness(
        point=point,
        pattern=tuple(layer == ON for layer in region.pattern),
        jacobian=jacobian,
        direction=problem.norm.attains(problem.functional @ jacobian),
        functional=problem.functional,
        radius=_radius(network, domain, region, point),
    )


def _radius(network: Network, domain: Box, region: Region, point: npt.NDArray[np.float64]) -> float:
    """The radius of the largest linf ball around the point in its region and the domain, rounded down."""
    reach = [point - domain.lower, domain.upper - point]
    enclosures = point_bounds(network.graph.nodes, network.input, point)
    forms = affine_forms(network, region.pattern)
    for gate in network.gates:
        lower, upper = enclosures[gate.x]
        slope = np.abs(forms[gate.x][0]).sum(axis=1)
        crossed = slope > 0
        reach.append(np.maximum(np.maximum(lower, -upper), 0.0)[crossed] / slope[crossed])
    return max(float(min(distance.min(initial=np.inf) for distance in reach)) * (1 - 1e-9), 0.0)


def _options(
    method: str,
    mode: str,
    solver: str,
    time_limit: float | None,
    gap: float,
    threads: int | None,
    solver_options: Mapping[str, Any] | None,
) -> SolveOptions:
    if not (isinstance(method, str) and method in ("auto", "mip")):
        raise OptionError(f"method={method!r} is none of 'auto', 'mip'")
    _check_mode(mode)
    if time_limit is not None and not (_is_number(time_limit) and time_limit > 0):
        raise OptionError(f"time_limit must be a positive number of seconds, not {time_limit!r}")
    if not (_is_number(gap) and 0 <= gap < 1):
        raise OptionError(f"gap must be a number, at least 0 and below 1, not {gap!r}")
    if threads is not None and not (isinstance(threads, numbers.Integral) and _is_number(threads) and threads >= 1):
        raise OptionError(f"threads must be a positive integer, not {threads!r}")
    if solver_options is not None and not isinstance(solver_options, Mapping):
        raise OptionError(f"solver_options must be a dictionary of the solver's own options, not {solver_options!r}")
    if not isinstance(solver, str):
        raise OptionError(f"solver must be a name, not {solver!r}")
    require_solver(solver)
    return SolveOptions(
        None if time_limit is None else float(time_limit),
        float(gap),
        None if threads is None else int(threads),
        dict(solver_options or {}),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_mode(mode: str) -> None:
    if not (isinstance(mode, str) and mode in ("auto", *_MODES)):
        raise OptionError(f"mode={mode!r} is none of 'auto', 'forward', 'reverse'")


def _reporter(
    progress: bool | Callable[[Progress], None], start: float, bracket: Bracket
) -> Callable[[Progress], None] | None:
    if not progress:
        return None

    def report(moment: Progress) -> None:
        """Certified bounds and the call's own clock in place of the solver's."""
        incumbent = max(bracket.lower, moment.incumbent or 0.0)
        bound = bracket.upper if moment.bound is None else min(bracket.upper, max(moment.bound, bracket.lower))
        now = replace(moment, seconds=time.perf_counter() - start, incumbent=incumbent, bound=bound)
        if callable(progress):
            progress(now)
        else:
            print(progress_line(now), file=sys.stderr)

    return report


def progress_line(moment: Progress) -> str:
    """Bounds, gap and time in one line."""
    lower, upper = moment.incumbent or 0.0, moment.bound or np.inf
    gap = (upper - lower) / upper if upper > 0 else 0.0
    return f"{moment.seconds:8.1f} s  lower {lower:.9g}  upper {upper:.9g}  gap {100 * gap:.3f} %"
