"""The pipeline: from a request and a domain to a result, in eight steps.

1. :func:`lipexact.loading.load`: what a user has becomes a network.
2. :func:`prepare_options` and :func:`make_request`: options and norms are checked, once; the
   options before step 1, so that what is wrong with them is told at once.
3. :func:`formulate`: the derivative, in both modes, becomes a problem with bounds of every node.
4. :func:`bound`: these are the first upper bound of the constant.
5. :func:`find_incumbent`: sampling and local search find a region, the first lower bound.
6. :func:`search`: an engine tightens both bounds.
7. :func:`certify`: the witness is computed anew, and both bounds are proven, if asked for;
   :func:`make_claim` has stated before step 3 what is to be proven.
8. :func:`make_result`: what is known becomes a :class:`.LipschitzResult`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lipexact.bab.prover import make_certificate
from lipexact.bab.statement import statement
from lipexact.bounds.formulation import (
    Drafts,
    Formulation,
    blas_threads,
    formulate,
    in_mode,
    norm_sets,
)
from lipexact.bounds.interval import point_bounds
from lipexact.certificates.certificate import Certificate
from lipexact.engines import find_engine
from lipexact.errors import OptionError
from lipexact.graph.pattern import ON
from lipexact.network import Network
from lipexact.numerics.rounding import rounded
from lipexact.options import Options
from lipexact.problem.homogenize import Homogenization
from lipexact.problem.problem import check_domain
from lipexact.question import describe_domain, describe_request
from lipexact.regions.affine import steepness
from lipexact.regions.feasibility import LinearRegion
from lipexact.regions.gradients import gradients
from lipexact.regions.heuristics import Incumbent, best_region
from lipexact.result import LipschitzResult, Proof, Status, Termination, Witness, closed
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.sets.unit_balls import SymmetricSet
from lipexact.state import ProgressCallback, SearchState, SearchTask, StoppingRule

# The share of the time that is left which sampling and local search may take before an engine runs.
INCUMBENT_TIME_SHARE = 1 / 4


@dataclass(frozen=True, eq=False)
class SolveRequest:
    """What is asked of a network, whatever the domain; :func:`make_request` makes one.

    Attributes
    ----------
    network, functionals, directions
        f, C and V: the constant is the largest c^T J v for c in C and v in V.
    options
        How it is to be computed.
    certified
        Whether results shall have certificates.
    asked
        Norms, functional and options as plain data, for the result's `question`.
    drafts
        The problem in each mode, made once for all domains.
    """

    network: Network
    functionals: SymmetricSet
    directions: SymmetricSet
    options: Options
    certified: bool
    asked: Mapping[str, Any]
    drafts: Drafts = field(repr=False)

    @property
    def rule(self) -> StoppingRule:
        """When to stop."""
        return StoppingRule.of(self.options)

    def question(self, domain: Domain) -> dict[str, Any]:
        """Return what is asked on a domain, as plain data."""
        return {**self.asked, "domain": describe_domain(domain)}


def prepare_options(executor: Executor | None = None, **keywords: Any) -> Options:
    """Check the options of a solve, and import what its engine needs, before the clock runs.

    Parameters
    ----------
    executor
        Whose workers take part in the engine's search, if any.
    keywords
        Those of :class:`.Options`.

    Raises
    ------
    OptionError, SolverUnavailableError
    TypeError
        If there is no option of a name, as Python says it of keywords.
    """
    unknown = keywords.keys() - {each.name for each in fields(Options)}
    if unknown:
        raise TypeError(f"lipexact got an unexpected keyword argument '{min(unknown)}'")
    options = Options(**keywords)
    check_executor(executor)
    find_engine(options.method).prepare(options, executor)
    return options


def make_request(
    network: Network,
    options: Options,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    certified: bool = False,
) -> SolveRequest:
    """Return a request, once the norms and the functional are checked.

    Parameters are those of :func:`lipexact.lipschitz`; the options come from
    :func:`prepare_options`.

    Raises
    ------
    NormError
    """
    functionals, directions = norm_sets(network, input_norm, output_norm, functional)
    asked = describe_request(network, input_norm, output_norm, functional, options)
    drafts = Drafts(network, functionals, directions)
    return SolveRequest(network, functionals, directions, options, certified, asked, drafts)


def solve(
    request: SolveRequest,
    domain: Domain,
    *,
    start: float | None = None,
    on_progress: ProgressCallback | None = None,
    executor: Executor | None = None,
    cores: int | None = None,
) -> LipschitzResult:
    """Compute the constant on a domain.

    Parameters
    ----------
    request
        What is asked.
    domain
        X.
    start
        When the time began to count, by `time.perf_counter`; now, if None.
    on_progress, executor
        As for :func:`lipexact.lipschitz`.
    cores
        How many threads a solver may have that was not given a number; None for as many as it
        likes.

    Raises
    ------
    DomainError, ModelError, NormError, OptionError, SolverUnavailableError, SolverError
        As for :func:`lipexact.lipschitz`.
    CertificateError
        Likewise.
    """
    clock = Clock(request.options.time_limit, start)
    network = request.network
    check_domain(network, domain, bounded=False)
    with blas_threads(network):
        claim = make_claim(request, domain)
        formulations = formulate(
            network,
            domain,
            request.functionals,
            request.directions,
            request.options.mode,
            clock.deadline,
            drafts=request.drafts,
        )
        state = bound(formulations, clock)
        state = find_incumbent(state, formulations, clock.deadline)
        task = SearchTask(
            formulations=in_mode(formulations, request.options.mode),
            rule=request.rule,
            options=request.options,
            deadline=clock.deadline,
            solver_threads=cores,
            executor=executor,
            on_progress=None if on_progress is None else clock.on_time(on_progress),
            keep_trace=claim is not None,
        )
        state = search(state, task)
        witness, state, certificate = certify(request, domain, claim, state, task, clock)
    return make_result(request, domain, state, witness, certificate, clock)


class Clock:
    """The time of one call.

    Parameters
    ----------
    time_limit
        Seconds; None for no limit.
    start
        When the time began to count, by `time.perf_counter`; now, if None.

    Attributes
    ----------
    begun
        When the solve began, after the network was read.
    deadline
        A time of `time.perf_counter`, or infinity.
    """

    def __init__(self, time_limit: float | None, start: float | None = None) -> None:
        self.begun = time.perf_counter()
        self.start = self.begun if start is None else start
        self.deadline = self.start + (np.inf if time_limit is None else time_limit)

    @property
    def read_seconds(self) -> float:
        """What reading the network took."""
        return self.begun - self.start

    @property
    def seconds(self) -> float:
        """Seconds since the time began to count."""
        return time.perf_counter() - self.start

    def on_time(self, on_progress: ProgressCallback) -> ProgressCallback:
        """Return the callback with the call's own clock in place of the engine's."""
        return lambda moment: on_progress(replace(moment, seconds=self.seconds))


def make_claim(request: SolveRequest, domain: Domain) -> dict[str, Any] | None:
    """Return what a certificate will claim; None where none is asked for.

    Raises
    ------
    CertificateError
        If there are no certificates for such networks or norms.
    """
    if not request.certified:
        return None
    return statement(request.network, domain, request.functionals, request.directions)


def bound(formulations: list[Formulation], clock: Clock) -> SearchState:
    """Return the first state: the smallest upper bound that the nodes' bounds give."""
    state = SearchState(lower=0.0, upper=min(each.root_bound for each in formulations))
    seconds = time.perf_counter() - clock.begun
    return state.with_stats(read_seconds=clock.read_seconds, bounds_seconds=seconds)


def find_incumbent(
    state: SearchState, formulations: list[Formulation], deadline: float
) -> SearchState:
    """Return the state with the best region that sampling and local search find."""
    start = time.perf_counter()
    problem = formulations[0].problem
    incumbent = best_region(
        problem.network,
        problem.domain,
        problem.functionals,
        problem.directions,
        deadline=start + max(deadline - start, 0.0) * INCUMBENT_TIME_SHARE,
        kinks=formulations[0].kinks,
    )
    state = state.with_incumbent(incumbent)
    if incumbent is not None and any(each.is_single_region for each in formulations):
        attained = incumbent.norm.upper * (1 + 1e-11)  # which is accurate to rounding
        state = state.with_upper(attained, Proof.FLOAT)
    # The bound may lie below the attained value by what rounding does to that value.
    state = replace(state, upper=max(state.upper, state.lower))
    return state.with_stats(primal_seconds=time.perf_counter() - start)


def search(state: SearchState, task: SearchTask) -> SearchState:
    """Let the engine of the method tighten the bounds, unless the stopping rule is met already."""
    if not state.meets(task.rule):
        state = find_engine(task.options.method).search(state, task)
    met = task.rule.termination(state.lower, state.upper)
    return state if met is None else state.stopped(met)


def certify(
    request: SolveRequest,
    domain: Domain,
    claim: dict[str, Any] | None,
    state: SearchState,
    task: SearchTask,
    clock: Clock,
) -> tuple[Witness | None, SearchState, Certificate | None]:
    """Compute the witness anew, and prove both bounds where a claim is to be certified.

    Ctrl-C ends the proof: there is no certificate then, and the state stays as it is.
    """
    certificate = None
    if claim is not None:
        begun = time.perf_counter()
        network = request.network
        seconds = begun - clock.start
        try:
            state, certificate = make_certificate(
                network, domain, claim, task.formulations, state, seconds
            )
        except KeyboardInterrupt:
            told = "interrupted while the certificate was made: there is none"
            state = state.with_diagnostic("certificate", told)
        state = state.with_stats(certificate_seconds=time.perf_counter() - begun)
    witness = None
    if state.incumbent is not None:
        witness = make_witness(request.network, domain, state.incumbent)
    return witness, state, certificate


def make_witness(network: Network, domain: Domain, incumbent: Incumbent) -> Witness:
    """Return the region that attains the lower bound, its Jacobian computed from its pattern."""
    region = incumbent.region
    direction = incumbent.norm.direction
    if isinstance(domain, Reals):
        whole = Homogenization(network)
        region = LinearRegion(whole.point(region.point), region.pattern)
        direction = whole.direction(direction)
    # No float is beyond the largest one.
    point = np.nan_to_num([rounded(entry) for entry in region.point.tolist()])
    jacobian, _ = gradients(network, np.eye(network.output.size), region.pattern)
    return Witness(
        point=point,
        pattern=tuple(layer == ON for layer in region.pattern),
        jacobian=jacobian,
        direction=direction,
        functional=incumbent.norm.functional,
        radius=_radius(network, domain, region, point),
    )


def _radius(
    network: Network, domain: Domain, region: LinearRegion, point: npt.NDArray[np.float64]
) -> float:
    """Return the radius of the largest linf ball around the point in its region and the domain.

    It is rounded down. In networks so large that their neurons' slopes are only bounded, it is
    smaller.
    """
    reach = [domain.margin(point[None, :])]
    with np.errstate(over="ignore", invalid="ignore"):  # of points as far away as floats go
        enclosures = point_bounds(network.graph.nodes, network.input, point)
    slopes = steepness(network, region.pattern)
    for gate in network.gates:
        lower, upper = enclosures[gate.x]
        slope = slopes[gate.x]
        crossed = slope > 0
        distance = np.maximum(np.maximum(lower, -upper), 0.0)
        reach.append(distance[crossed] / slope[crossed])
    least = float(np.concatenate(reach).min())
    return max(least * (1 - 1e-9), 0.0) if math.isfinite(least) else 0.0


def make_result(
    request: SolveRequest,
    domain: Domain,
    state: SearchState,
    witness: Witness | None,
    certificate: Certificate | None,
    clock: Clock,
) -> LipschitzResult:
    """Return the state at the end as a result."""
    exact = closed(state.lower, state.upper)
    termination = request.rule.termination(state.lower, state.upper) or state.termination
    if termination is Termination.OPTIMAL and not exact:  # the proof is a little weaker
        termination = Termination.UNDECIDED
    told = state.diagnostics[-1].message if state.diagnostics else None
    return LipschitzResult(
        lower=state.lower,
        upper=state.upper,
        status=Status.EXACT if exact else Status.BOUNDED,
        termination=termination,
        proof=state.proof,
        witness=witness,
        target=request.options.target,
        method="bounds" if state.engine is None else state.engine,
        mode=state.mode,
        solver=state.solver,
        seconds=clock.seconds,
        stats=replace(state.stats, message=told),
        diagnostics=state.diagnostics,
        question=request.question(domain),
        certificate=certificate,
    )


def check_executor(executor: object) -> None:
    """Refuse what cannot do tasks.

    Raises
    ------
    OptionError
    """
    if executor is None:
        return
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise OptionError(
            "executor must be an object with the interface of concurrent.futures.Executor, such as "
            f"Dask's client.get_executor(), not {executor!r}"
        )
