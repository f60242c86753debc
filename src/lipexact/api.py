"""The public functions: each is a straight line through the floors below."""

from __future__ import annotations

import math
import numbers
import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lipexact.bab.explore import Trace
from lipexact.bab.tree import branch, fits
from lipexact.bounds.interval import point_bounds
from lipexact.bracket import RELAXATION, TARGET, Bracket, Goal, Progress, ProgressCallback
from lipexact.certify.certificate import Certificate
from lipexact.domains import Domain, Reals
from lipexact.errors import OptionError
from lipexact.functionals import Functional
from lipexact.mip.options import SolveOptions
from lipexact.network import Network
from lipexact.norms import Norm
from lipexact.onnx.reader import read_onnx
from lipexact.pattern import ON
from lipexact.position import PositionReport, position_report
from lipexact.primal import Found, best_region
from lipexact.problem import check_domain
from lipexact.programs import Program, allowed_programs, blas_threads, bodies_of, programs_of
from lipexact.projective import Projective
from lipexact.prover import certify, statement
from lipexact.regions import Region, gradients, steepness
from lipexact.result import LipschitzResult, Status, Witness, closed
from lipexact.rounding import rounded

if TYPE_CHECKING:
    from lipexact.mip.compose import Composition

Mode = Literal["auto", "forward", "reverse"]
Method = Literal["auto", "bab", "mip", "lp"]


def load(
    model: str | os.PathLike[str] | Any,
    *,
    input: str | None = None,  # noqa: A002 - what ONNX calls it
    output: str | None = None,
    fixed: Mapping[str, npt.ArrayLike] | None = None,
    drop_final: bool = False,
    batched: bool = True,
) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    model
        A path, or an ``onnx.ModelProto``.
    input
        The name of the input x; None for the only one that the output depends on and that is not fixed.
    output
        The name of the output, or of an inner tensor, which cuts the network there; None for the only output.
    fixed
        Constants for the other inputs, by name, of the shapes that the model declares, or flat, or without the batch
        axis.
    drop_final
        Whether to leave out the Softmax, LogSoftmax, Sigmoid, Tanh, Softplus, ArgMax or Hardmax that the output ends
        in: those are not piecewise linear.
    batched
        Whether the first axis of inputs with two or more is the batch axis, which is read as of length 1.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If the file is missing or corrupt, or has other inputs and outputs than these options say.
    UnsupportedOperatorError
        If it has an operator, attribute or opset that is not supported.
    """
    if isinstance(model, Network):
        if not (input is None and output is None and fixed is None and drop_final is False and batched is True):
            raise OptionError(
                "the model is a Network already: input, output, fixed, drop_final and batched are for files"
            )
        return model
    if fixed is not None and not isinstance(fixed, Mapping):
        raise OptionError(f"fixed must be a dictionary of arrays by the names of inputs, not {fixed!r}")
    for what, name in (("input", input), ("output", output)):
        if name is not None and not isinstance(name, str):
            raise OptionError(f"{what} must be the name of a tensor, not {name!r}")
    for what, choice in (("drop_final", drop_final), ("batched", batched)):
        if not isinstance(choice, bool):
            raise OptionError(f"{what} must be True or False, not {choice!r}")
    return read_onnx(model, input=input, output=output, fixed=fixed, drop_final=drop_final, batched=batched)


def lipschitz(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    method: Method = "auto",
    solver: str = "highs",
    mode: Mode = "auto",
    time_limit: float | None = None,
    gap: float = 0.0,
    target: float | None = None,
    threads: int | None = None,
    progress: bool | ProgressCallback = False,
    solver_options: Mapping[str, Any] | None = None,
    certificate: str | os.PathLike[str] | bool | None = None,
) -> LipschitzResult:
    """The exact Lipschitz constant of a network on a domain.

    For f: R^d -> R^m, the input norm alpha and the output norm beta, it is::

        L = sup ||f(x) - f(y)||_beta / ||x - y||_alpha  over x != y in X
          = max ||J||_(alpha -> beta)  over the linear regions of f whose interior meets X

    (Jordan and Dimakis, NeurIPS 2020, Theorems 1 and 2; here without their condition of general position). With a
    functional c, it is the constant of c^T f; with several, the largest of theirs.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network`.
    domain
        X: a :class:`Box`, :class:`Ball` or :class:`Polytope` of the network's input dimension d, an intersection of
        these by ``&``, or :class:`Reals` for the global constant.
    input_norm
        alpha: "linf", "l1", "l2", or a :class:`PolyhedralNorm` on R^d.
    output_norm
        beta, likewise on R^m; None for that of the input. Not together with a functional.
    functional
        None: the whole output. Else the index of an output, a vector c of shape (m,), :class:`CrossLipschitz`, or a
        polytope of functionals, by its vertices of shape (k, m) or as a :class:`Polytope` in R^m.
    method
        "bab", branch and bound on the network's gates, which needs no solver but HiGHS for small linear programs and
        takes all norms; "mip", a mixed-integer program for `solver`; "lp", the relaxation of its gates alone, for an
        upper bound (LipLP; with an l2 norm its squares remain); or "auto": "bab", unless the network is too large for
        it, or `solver`, `mode` or `solver_options` say how a program is to be solved.
    solver
        "highs", "scip", "cbc" or "gurobi". Where an l2 norm makes the program quadratic, "scip" or "gurobi".
    mode
        How the derivative is encoded: "forward" as J v over directions v, "reverse" as J^T c over functionals c; "auto"
        by an estimate of the cost, or, with the methods "bab" and "lp", both.
    time_limit
        Seconds of wall-clock time for the whole call; None for no limit. Solvers overstay at times, and reading the
        network, rough bounds in one mode and some samples come first in any case.
    gap
        Stop as soon as (upper - lower) / upper is at most this.
    target
        Stop as soon as L <= target or L > target is known; the result's `within_target` says which.
    threads
        For the solver, None leaves it to the solver; for "bab" how many processes share the tree, None for one.
    progress
        True prints a line now and then to stderr; a function is called with a
        :class:`~lipexact.bracket.Progress`, incumbent and bound in the constant's own units, and stops the
        search by returning True.
    solver_options
        Passed through under the solver's own names.
    certificate
        A path: write a proof of the result there, which :func:`check` verifies in exact arithmetic, without a solver.
        True: make it, as the result's `certificate`. It is made after the search, of which the time limit is, and takes
        some times as long. Branch and bound hands over its tree; a program's upper bound is proven anew by branch and
        bound, if that succeeds in about the time that was taken so far, or ten seconds: the result's `proof` says so.

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
        If the solver is not installed, its licence too small, or it cannot solve quadratic programs.
    SolverError
        If the solver breaks down.
    CertificateError
        If a certificate is asked for where there is none: for huge networks, and norms of very many half-spaces.
    """
    options = solve_options(method, solver, time_limit, gap, target, threads, solver_options)
    # Who says how a program is to be solved wants one.
    plain = solver == "highs" and mode == "auto" and not solver_options
    if not (method == "bab" or (method == "auto" and plain)):
        import_module("lipexact.mip.search")  # before the clock runs
    start = time.perf_counter()
    file = certificate_path(certificate)
    goal = Goal(float(gap), None if target is None else float(target))
    deadline = start + (np.inf if time_limit is None else time_limit)
    network = load(model)
    stats: dict[str, Any] = {"read_seconds": time.perf_counter() - start}
    with blas_threads(network):
        functionals, directions = bodies_of(network, domain, input_norm, output_norm, functional)
        data = statement(network, domain, functionals, directions) if certificate else None
        programs = programs_of(network, domain, functionals, directions, mode, deadline)
        allowed = allowed_programs(programs, mode)
        stats["bounds_seconds"] = time.perf_counter() - start - stats["read_seconds"]
        bracket = _bracket(programs, deadline)
        bracket.stats |= stats
        chosen = _cheapest(allowed, bracket.lower)
        if method == "auto":
            method = "bab" if plain and fits([program.problem for program in allowed]) else "mip"
        report = _reporter(progress, start, bracket)
        trace: Trace | None = None if data is None else {}
        if not goal.reached(bracket.lower, bracket.upper):
            if method == "bab":
                questions = [program.problem for program in allowed], [program.bounds for program in allowed]
                workers = int(threads or 1)
                search = *questions, bracket, goal
                branch(*search, deadline=deadline, workers=workers, on_progress=report, trace=trace)
            elif method == "lp":
                chosen = _relaxed(allowed, chosen, bracket, solver, options, goal, deadline, report)
            else:
                from lipexact.mip.search import narrow  # noqa: PLC0415 - Pyomo's import is long
                from lipexact.mip.solvers import require_solver  # noqa: PLC0415

                require_solver(solver, quadratic=chosen.problem.quadratic)
                program = chosen.problem, chosen.bounds, bracket, solver, options, goal
                bracket = narrow(*program, deadline=deadline, on_progress=report)
        made = None
        if data is not None and trace is not None:
            made = _certified(network, domain, data, allowed, bracket, trace, start)
    witness = None if bracket.found is None else _witness(network, domain, bracket.found)
    result = _result(bracket, witness, made, method, chosen.problem.mode, solver, goal, start)
    if made is not None and file is not None:
        try:
            made.save(file)
        except OSError as error:  # hours of work are in the result
            told = f"the certificate was not written: {error}; the result has it still, to be saved elsewhere"
            warnings.warn(told, RuntimeWarning, stacklevel=2)
    return result


def _certified(
    network: Network,
    domain: Domain,
    data: dict[str, Any],
    programs: list[Program],
    bracket: Bracket,
    trace: Trace,
    start: float,
) -> Certificate | None:
    """A proof of the bracket's bounds, which become those that are proven; None after ctrl-C."""
    before = time.perf_counter()
    questions = [program.problem for program in programs], [program.bounds for program in programs]
    made = None
    try:
        made = certify(network, domain, data, *questions, bracket, trace, before - start)
    except KeyboardInterrupt:
        bracket.stats["message"] = "interrupted while the certificate was made: there is none"
    bracket.stats["certificate_seconds"] = time.perf_counter() - before
    return made


def certificate_path(certificate: str | os.PathLike[str] | bool | None) -> Path | None:
    """Where a certificate is to be written; what cannot be is refused before the work rather than after it.

    Raises
    ------
    OptionError
    """
    if certificate is None or isinstance(certificate, bool):
        return None
    if not isinstance(certificate, str | os.PathLike):
        raise OptionError(f"certificate must be a path, True or None, not {certificate!r}")
    path = Path(certificate)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"certificate: there is no folder for the file '{path}', or it is a folder itself")
    return path


def _relaxed(
    allowed: list[Program],
    chosen: Program,
    bracket: Bracket,
    solver: str,
    options: SolveOptions,
    goal: Goal,
    deadline: float,
    report: ProgressCallback | None,
) -> Program:
    """The program whose relaxation is the best, of one mode or both."""
    from lipexact.mip.search import relax  # noqa: PLC0415 - Pyomo's import is long
    from lipexact.mip.solvers import require_solver  # noqa: PLC0415

    for program in sorted(allowed, key=lambda one: one is not chosen):
        require_solver(solver, quadratic=program.problem.quadratic)
        if relax(program.problem, program.bounds, bracket, solver, options, deadline=deadline, on_progress=report):
            chosen = program
        if bracket.termination != RELAXATION or goal.reached(bracket.lower, bracket.upper):
            break
    return chosen


def build(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
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
    from lipexact.mip.compose import compose  # noqa: PLC0415 - Pyomo's import is long

    network = load(model)
    check_domain(network, domain, bounded=True)
    bodies = bodies_of(network, domain, input_norm, output_norm, functional)
    programs = programs_of(network, domain, *bodies, mode, np.inf, keep_output=True)
    allowed = allowed_programs(programs, mode)
    chosen = _cheapest(allowed, _bracket(programs, np.inf).lower) if len(allowed) > 1 else allowed[0]
    return compose(chosen.problem, chosen.bounds)


def general_position_report(model: str | os.PathLike[str] | Network | Any, domain: Domain) -> PositionReport:
    """Which neurons coincide, vanish, or meet in more kernels than general position allows.

    Programs that let a neuron at zero choose its state, such as LipMIP, may overestimate where a network is not in
    general position (Jordan and Dimakis, NeurIPS 2020, Definition 4); :func:`lipschitz` is exact either way.

    Parameters
    ----------
    model, domain
        As for :func:`lipschitz`.

    Returns
    -------
    PositionReport
        What could be decided cheaply; ``print`` it.

    Raises
    ------
    ModelError, UnsupportedOperatorError, DomainError
        As for :func:`lipschitz`.
    """
    return position_report(load(model), domain)


def _cheapest(programs: list[Program], lower: float) -> Program:
    return min(programs, key=lambda program: program.cost(lower))


def _bracket(programs: list[Program], deadline: float) -> Bracket:
    """What is known before any program is solved."""
    problem, start = programs[0].problem, time.perf_counter()
    share = start + max(deadline - start, 0.0) / 4  # the rest is the solver's
    found = best_region(
        problem.network,
        problem.domain,
        problem.functionals,
        problem.directions,
        deadline=share,
        kinks=programs[0].kinks,
    )
    lower = 0.0 if found is None else found.norm.lower
    upper = min(program.root for program in programs)
    if found is not None and any(program.single for program in programs):
        upper = min(upper, found.norm.upper * (1 + 1e-11))  # which is accurate to rounding
    # The bound may lie below the attained value by what rounding does to that value.
    bracket = Bracket(lower, max(upper, lower), found)
    bracket.stats["primal_seconds"] = time.perf_counter() - start
    return bracket


def _result(
    bracket: Bracket,
    witness: Witness | None,
    certificate: Certificate | None,
    method: str,
    mode: str,
    solver: str,
    goal: Goal,
    start: float,
) -> LipschitzResult:
    exact = closed(bracket.lower, bracket.upper)
    if exact:
        bracket.termination = "optimal"
    elif closed(bracket.lower, bracket.upper, goal.gap):
        bracket.termination = "gap"
    elif goal.decided(bracket.lower, bracket.upper):
        bracket.termination = TARGET
    return LipschitzResult(
        lower=bracket.lower,
        upper=bracket.upper,
        status=Status.EXACT if exact else Status.BOUNDED,
        termination=bracket.termination,
        proof=bracket.proof,
        witness=witness,
        target=goal.target,
        method=method,
        mode=mode,
        solver=solver,
        seconds=time.perf_counter() - start,
        stats=bracket.stats,
        certificate=certificate,
    )


def _witness(network: Network, domain: Domain, found: Found) -> Witness:
    region, direction = found.region, found.norm.direction
    if isinstance(domain, Reals):
        whole = Projective(network)
        region, direction = Region(whole.point(region.point), region.pattern), whole.direction(direction)
    point = np.nan_to_num([rounded(entry) for entry in region.point.tolist()])  # no float is beyond the largest one
    jacobian, _ = gradients(network, np.eye(network.output.size), region.pattern)
    return Witness(
        point=point,
        pattern=tuple(layer == ON for layer in region.pattern),
        jacobian=jacobian,
        direction=direction,
        functional=found.norm.functional,
        radius=_radius(network, domain, region, point),
    )


def _radius(network: Network, domain: Domain, region: Region, point: npt.NDArray[np.float64]) -> float:
    """The radius of the largest linf ball around the point in its region and the domain, rounded down.

    Of a smaller one where the network is so large that its neurons' slopes are only bounded.
    """
    reach = [domain.margin(point[None, :])]
    with np.errstate(over="ignore", invalid="ignore"):  # of points as far away as floats go
        enclosures = point_bounds(network.graph.nodes, network.input, point)
    slopes = steepness(network, region.pattern)
    for gate in network.gates:
        lower, upper = enclosures[gate.x]
        slope = slopes[gate.x]
        crossed = slope > 0
        reach.append(np.maximum(np.maximum(lower, -upper), 0.0)[crossed] / slope[crossed])
    least = float(np.concatenate(reach).min())
    return max(least * (1 - 1e-9), 0.0) if math.isfinite(least) else 0.0


def solve_options(
    method: str,
    solver: str,
    time_limit: float | None,
    gap: float,
    target: float | None,
    threads: int | None,
    solver_options: Mapping[str, Any] | None,
) -> SolveOptions:
    """What a solver is told, once all options of a call are checked.

    Raises
    ------
    OptionError, SolverUnavailableError
    """
    if not (isinstance(method, str) and method in get_args(Method)):
        raise OptionError(f"method={method!r} is none of {', '.join(map(repr, get_args(Method)))}")
    limit = positive_seconds(time_limit)
    if not (_is_number(gap) and 0 <= gap < 1):
        raise OptionError(f"gap must be a number, at least 0 and below 1, not {gap!r}")
    if target is not None and not (_is_number(target) and target >= 0):
        raise OptionError(f"target must be a number, at least 0, not {target!r}")
    if threads is not None and not (isinstance(threads, numbers.Integral) and _is_number(threads) and threads >= 1):
        raise OptionError(f"threads must be a positive integer, not {threads!r}")
    if solver_options is not None and not isinstance(solver_options, Mapping):
        raise OptionError(f"solver_options must be a dictionary of the solver's own options, not {solver_options!r}")
    if not isinstance(solver, str):
        raise OptionError(f"solver must be a name, not {solver!r}")
    if solver != "highs":  # which comes along
        from lipexact.mip.solvers import require_solver  # noqa: PLC0415 - Pyomo's import is long

        require_solver(solver)
    if method == "bab" and (solver != "highs" or solver_options):
        raise OptionError("method='bab' solves its linear programs by HiGHS, without options: leave the solver out")
    return SolveOptions(
        limit,
        0.0,
        None if threads is None else int(threads),
        dict(solver_options or {}),
    )


def positive_seconds(time_limit: float | None) -> float | None:
    """A time limit, None for none.

    Raises
    ------
    OptionError
    """
    if time_limit is not None and not (_is_number(time_limit) and time_limit > 0):
        raise OptionError(f"time_limit must be a positive number of seconds, not {time_limit!r}")
    return None if time_limit is None else float(time_limit)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _reporter(progress: bool | ProgressCallback, start: float, bracket: Bracket) -> ProgressCallback | None:
    if not (isinstance(progress, bool) or callable(progress)):
        raise OptionError(f"progress must be True, False or a function, not {progress!r}")
    if not progress:
        return None

    def report(moment: Progress) -> bool | None:
        """Certified bounds and the call's own clock in place of the solver's."""
        incumbent = max(bracket.lower, moment.incumbent or 0.0)
        bound = bracket.upper if moment.bound is None else min(bracket.upper, max(moment.bound, bracket.lower))
        now = replace(moment, seconds=time.perf_counter() - start, incumbent=incumbent, bound=bound)
        if callable(progress):
            return progress(now)
        print(progress_line(now), file=sys.stderr)
        return None

    return report


def progress_line(moment: Progress) -> str:
    """Bounds, gap and time in one line."""
    lower, upper = moment.incumbent or 0.0, moment.bound or np.inf
    gap = (upper - lower) / upper if upper > 0 else 0.0
    return f"{moment.seconds:8.1f} s  lower {lower:.9g}  upper {upper:.9g}  gap {100 * gap:.3f} %"
