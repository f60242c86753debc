"""What is asked of a network, and how it is answered on one domain after another."""

from __future__ import annotations

import math
import numbers
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lipexact.bab.driver import branch, fits
from lipexact.bab.expand import Trace
from lipexact.bab.prover import make_certificate, statement
from lipexact.bounds.formulation import Formulation, blas_threads, formulate, in_mode, norm_sets
from lipexact.bounds.interval import point_bounds
from lipexact.certificates.certificate import Certificate
from lipexact.errors import OptionError
from lipexact.graph.pattern import ON
from lipexact.network import Network
from lipexact.numerics.rounding import rounded
from lipexact.options import SolveOptions
from lipexact.problem.homogenize import Homogenization
from lipexact.problem.problem import DerivativeMode, Problem, check_domain
from lipexact.regions.affine import steepness
from lipexact.regions.feasibility import LinearRegion
from lipexact.regions.gradients import gradients
from lipexact.regions.heuristics import Incumbent, best_region
from lipexact.result import LipschitzResult, Status, Witness, closed
from lipexact.sets.domains import Domain, Reals
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.sets.unit_balls import SymmetricSet
from lipexact.state import RELAXATION, TARGET, Progress, ProgressCallback, SearchState, StoppingRule

Mode = Literal["auto", "forward", "reverse"]
Method = Literal["auto", "bab", "mip", "lp"]


@dataclass(frozen=True, eq=False)
class SolveRequest:
    """What is asked of a network, whatever the domain; :func:`ask` makes one.

    Attributes
    ----------
    network, functionals, directions
        f, C and V.
    method, solver, mode, options, goal
        How it is to be answered.
    certified
        Whether results shall have certificates.
    """

    network: Network
    functionals: SymmetricSet
    directions: SymmetricSet
    method: Method
    solver: str
    mode: Mode
    options: SolveOptions
    goal: StoppingRule
    certified: bool
    # On other domains, made once.
    _drafts: dict[DerivativeMode, Problem] = field(default_factory=dict)

    def solve(
        self,
        domain: Domain,
        *,
        start: float | None = None,
        progress: bool | ProgressCallback = False,
        executor: Executor | None = None,
        cores: int | None = None,
    ) -> LipschitzResult:
        """The constant on a domain.

        Parameters
        ----------
        domain
            X.
        start
            When the time began to count, by `time.perf_counter`; now, if None.
        progress, executor
            As for :func:`lipexact.lipschitz`.
        cores
            How many threads a solver may have that was not given a number; None for as many as it likes.

        Raises
        ------
        DomainError, ModelError, NormError, OptionError, SolverUnavailableError, SolverError, CertificateError
            As for :func:`lipexact.lipschitz`.
        """
        read = time.perf_counter()
        start = read if start is None else start
        deadline = start + (np.inf if self.options.time_limit is None else self.options.time_limit)
        options = replace(self.options, threads=self.options.threads or cores)  # of a solver
        network, functionals, directions, goal = (
            self.network,
            self.functionals,
            self.directions,
            self.goal,
        )
        check_domain(network, domain, bounded=False)
        stats: dict[str, Any] = {"read_seconds": read - start}
        with blas_threads(network):
            data = statement(network, domain, functionals, directions) if self.certified else None
            bodies = functionals, directions
            programs = formulate(network, domain, *bodies, self.mode, deadline, drafts=self._drafts)
            allowed = in_mode(programs, self.mode)
            stats["bounds_seconds"] = time.perf_counter() - read
            bracket = _bracket(programs, deadline)
            bracket.stats |= stats
            chosen, method = _cheapest(allowed, bracket.lower), self.method
            if method == "auto":
                method = (
                    "bab"
                    if self._plain and fits([program.problem for program in allowed])
                    else "mip"
                )
            report = _reporter(progress, start, bracket)
            trace: Trace | None = None if data is None else {}
            if not goal.is_met(bracket.lower, bracket.upper):
                if method == "bab":
                    problems, bounds = (
                        [one.problem for one in allowed],
                        [one.bounds for one in allowed],
                    )
                    branch(
                        problems,
                        bounds,
                        bracket,
                        goal,
                        deadline=deadline,
                        executor=executor,
                        workers=self.options.threads,
                        on_progress=report,
                        trace=trace,
                    )
                elif method == "lp":
                    chosen = _relaxed(
                        allowed, chosen, bracket, self.solver, options, goal, deadline, report
                    )
                else:
                    from lipexact.mip.cut_loop import solve_by_cuts  # noqa: PLC0415 - Pyomo's import is long
                    from lipexact.mip.solvers.base import SolverSettings, require_solver  # noqa: PLC0415

                    require_solver(self.solver, quadratic=chosen.problem.quadratic)
                    settings = SolverSettings(**vars(options))
                    program = chosen.problem, chosen.bounds, bracket, self.solver, settings, goal
                    bracket = solve_by_cuts(*program, deadline=deadline, on_progress=report)
            made = None
            if data is not None and trace is not None:
                made = _certified(network, domain, data, allowed, bracket, trace, start)
        witness = (
            None if bracket.incumbent is None else _witness(network, domain, bracket.incumbent)
        )
        return _result(
            bracket, witness, made, method, chosen.problem.mode, self.solver, goal, start
        )

    @property
    def _plain(self) -> bool:
        """Whether nothing says how a program is to be solved: who does wants one."""
        return self.solver == "highs" and self.mode == "auto" and not self.options.extra


def solve_request(
    model: Network,
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
    solver_options: Mapping[str, Any] | None = None,
    certified: bool = False,
) -> SolveRequest:
    """A question, once all that does not depend on a domain is checked; parameters as for :func:`lipexact.lipschitz`.

    Raises
    ------
    NormError, OptionError, SolverUnavailableError
    """
    options = solve_options(method, solver, time_limit, gap, target, threads, solver_options)
    functionals, directions = norm_sets(model, input_norm, output_norm, functional)
    goal = StoppingRule(float(gap), None if target is None else float(target))
    return SolveRequest(
        model, functionals, directions, method, solver, mode, options, goal, certified
    )


def import_programs(
    method: str, solver: str, mode: str, solver_options: Mapping[str, Any] | None
) -> None:
    """Import Pyomo, where a program will be made, before the clock runs."""
    if not (
        method == "bab"
        or (method == "auto" and solver == "highs" and mode == "auto" and not solver_options)
    ):
        import_module("lipexact.mip.cut_loop")


def _certified(
    network: Network,
    domain: Domain,
    data: dict[str, Any],
    programs: list[Formulation],
    bracket: SearchState,
    trace: Trace,
    start: float,
) -> Certificate | None:
    """A proof of the bracket's bounds, which become those that are proven; None after ctrl-C."""
    before = time.perf_counter()
    questions = [program.problem for program in programs], [program.bounds for program in programs]
    made = None
    try:
        made = make_certificate(network, domain, data, *questions, bracket, trace, before - start)
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
        raise OptionError(
            f"certificate: there is no folder for the file '{path}', or it is a folder itself"
        )
    return path


def _relaxed(
    allowed: list[Formulation],
    chosen: Formulation,
    bracket: SearchState,
    solver: str,
    options: SolveOptions,
    goal: StoppingRule,
    deadline: float,
    report: ProgressCallback | None,
) -> Formulation:
    """The program whose relaxation is the best, of one mode or both."""
    from lipexact.mip.cut_loop import solve_lp_relaxation  # noqa: PLC0415 - Pyomo's import is long
    from lipexact.mip.solvers.base import SolverSettings, require_solver  # noqa: PLC0415

    settings = SolverSettings(**vars(options))
    for program in sorted(allowed, key=lambda one: one is not chosen):
        require_solver(solver, quadratic=program.problem.quadratic)
        if solve_lp_relaxation(
            program.problem,
            program.bounds,
            bracket,
            solver,
            settings,
            deadline=deadline,
            on_progress=report,
        ):
            chosen = program
        if bracket.termination != RELAXATION or goal.is_met(bracket.lower, bracket.upper):
            break
    return chosen


def _cheapest(programs: list[Formulation], lower: float) -> Formulation:
    return min(programs, key=lambda program: program.cost(lower))


def choose(programs: list[Formulation], allowed: list[Formulation]) -> Formulation:
    """The one of those allowed that promises the least work."""
    return _cheapest(allowed, _bracket(programs, np.inf).lower) if len(allowed) > 1 else allowed[0]


def _bracket(programs: list[Formulation], deadline: float) -> SearchState:
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
    upper = min(program.root_bound for program in programs)
    if found is not None and any(program.is_single_region for program in programs):
        upper = min(upper, found.norm.upper * (1 + 1e-11))  # which is accurate to rounding
    # The bound may lie below the attained value by what rounding does to that value.
    bracket = SearchState(lower, max(upper, lower), found)
    bracket.stats["primal_seconds"] = time.perf_counter() - start
    return bracket


def _result(
    bracket: SearchState,
    witness: Witness | None,
    certificate: Certificate | None,
    method: str,
    mode: str,
    solver: str,
    goal: StoppingRule,
    start: float,
) -> LipschitzResult:
    exact = closed(bracket.lower, bracket.upper)
    if exact:
        bracket.termination = "optimal"
    elif closed(bracket.lower, bracket.upper, goal.gap):
        bracket.termination = "gap"
    elif goal.target_is_decided(bracket.lower, bracket.upper):
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


def _witness(network: Network, domain: Domain, found: Incumbent) -> Witness:
    region, direction = found.region, found.norm.direction
    if isinstance(domain, Reals):
        whole = Homogenization(network)
        region, direction = (
            LinearRegion(whole.point(region.point), region.pattern),
            whole.direction(direction),
        )
    point = np.nan_to_num(
        [rounded(entry) for entry in region.point.tolist()]
    )  # no float is beyond the largest one
    jacobian, _ = gradients(network, np.eye(network.output.size), region.pattern)
    return Witness(
        point=point,
        pattern=tuple(layer == ON for layer in region.pattern),
        jacobian=jacobian,
        direction=direction,
        functional=found.norm.functional,
        radius=_radius(network, domain, region, point),
    )


def _radius(
    network: Network, domain: Domain, region: LinearRegion, point: npt.NDArray[np.float64]
) -> float:
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
    count = positive_integer(threads, "threads")
    if solver_options is not None and not isinstance(solver_options, Mapping):
        raise OptionError(
            f"solver_options must be a dictionary of the solver's own options, not {solver_options!r}"
        )
    if not isinstance(solver, str):
        raise OptionError(f"solver must be a name, not {solver!r}")
    if solver != "highs":  # which comes along
        from lipexact.mip.solvers.base import require_solver  # noqa: PLC0415 - Pyomo's import is long

        require_solver(solver)
    if method == "bab" and (solver != "highs" or solver_options):
        raise OptionError(
            "method='bab' solves its linear programs by HiGHS, without options: leave the solver out"
        )
    return SolveOptions(
        limit,
        0.0,
        count,
        dict(solver_options or {}),
    )


def check_executor(executor: object, method: str = "auto") -> None:
    """Refuse what cannot do tasks, and what a program has no use for.

    Raises
    ------
    OptionError
    """
    if executor is None:
        return
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise OptionError(
            "executor must be an object with the interface of concurrent.futures.Executor, such as Dask's "
            f"client.get_executor(), not {executor!r}"
        )
    if method in ("mip", "lp"):
        raise OptionError(
            f"executor is for branch and bound; method={method!r} leaves all to one solver"
        )


def positive_integer(value: int | None, what: str) -> int | None:
    """A number of something, None for none.

    Raises
    ------
    OptionError
    """
    if value is not None and not (
        isinstance(value, numbers.Integral) and _is_number(value) and value >= 1
    ):
        raise OptionError(f"{what} must be a positive integer, not {value!r}")
    return None if value is None else int(value)


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


def _reporter(
    progress: bool | ProgressCallback, start: float, bracket: SearchState
) -> ProgressCallback | None:
    if not (isinstance(progress, bool) or callable(progress)):
        raise OptionError(f"progress must be True, False or a function, not {progress!r}")
    if not progress:
        return None

    def report(moment: Progress) -> bool | None:
        """Certified bounds and the call's own clock in place of the solver's."""
        incumbent = max(bracket.lower, moment.incumbent or 0.0)
        bound = (
            bracket.upper
            if moment.bound is None
            else min(bracket.upper, max(moment.bound, bracket.lower))
        )
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
