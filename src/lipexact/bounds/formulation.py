"""Formulations: the problem in each mode that its norms allow, with bounds of its nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from lipexact.bounds import constants
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.interval import Bounds, Interval, gate_state, length_bound
from lipexact.bounds.liveness import live_coordinates
from lipexact.errors import ModelError, NormError, OptionError
from lipexact.graph.ir import Conditional, Node
from lipexact.network import Network
from lipexact.problem.homogenize import Homogenization
from lipexact.problem.problem import MODES, DerivativeMode, Problem, check_domain, lipschitz_problem
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.functionals import Functional, functional_set
from lipexact.sets.norms import Norm, PolyhedralNorm, norm
from lipexact.sets.unit_balls import SymmetricSet


@dataclass(frozen=True, eq=False)
class Formulation:
    """A problem in one mode, and the bounds of its graph."""

    problem: Problem
    bounds: Bounds

    @property
    def root_bound(self) -> float:
        """The upper bound of the constant that comes from the bounds alone."""
        return max(length_bound(self.bounds[self.problem.objective]), 0.0)

    @cached_property
    def open_gates(self) -> dict[Conditional, int]:
        """How many live gates of each layer the bounds leave open: the program's binaries."""
        graph = self.problem.graph
        bounds = self.bounds
        needed = live_coordinates(graph, bounds)
        return {
            gate: int((needed[gate] & np.isnan(gate_state(gate, bounds))).sum())
            for gate in graph.gates
        }

    @property
    def kinks(self) -> list[npt.NDArray[np.bool_]]:
        """For each layer of the network's gates which of them are open and matter."""
        gates = zip(self.problem.network.gates, self.problem.gates, strict=True)
        return [
            np.zeros(own.size, dtype=bool)
            if gate is None
            else np.isnan(gate_state(gate, self.bounds))
            for own, gate in gates
        ]

    @property
    def is_single_region(self) -> bool:
        """Whether no gate of the network is open: its derivative is one matrix."""
        return not any(
            self.open_gates.get(gate, 0) for gate in self.problem.gates if gate is not None
        )

    def cost(self, lower: float) -> float:
        """Estimate the logarithm of the size of the search tree, to compare modes by.

        It is what has to be branched on, times how far the bounds are apart: open gates, and with
        an l2 norm the squares of what depends on continuous variables, which count double.
        Measured, the mode with the smaller product is the faster one, but where the two are close
        (docs, "Forward and reverse mode").
        """
        size = self.problem.objective.size
        squares = 2 * size if size > 1 and len(self.problem.sets) > 1 else 0
        apart = float(np.log(max(self.root_bound / lower, 1.0))) if lower > 0 else 1.0
        return (sum(self.open_gates.values()) + squares) * apart


def checked_norm_sets(
    network: Network,
    domain: Domain,
    input_norm: str | Norm,
    output_norm: str | Norm | None,
    functional: Functional,
) -> tuple[SymmetricSet, SymmetricSet]:
    """Return the sets of functionals and directions, once the domain is checked."""
    check_domain(network, domain, bounded=False)
    return norm_sets(network, input_norm, output_norm, functional)


def norm_sets(
    network: Network, input_norm: str | Norm, output_norm: str | Norm | None, functional: Functional
) -> tuple[SymmetricSet, SymmetricSet]:
    """Return the sets that functionals and directions range over.

    Raises
    ------
    NormError
        If a norm or the functional does not fit the network.
    """
    if functional is not None and output_norm is not None:
        raise NormError(
            "output_norm measures the whole output; leave it out where a functional is given"
        )
    alpha = norm(input_norm)
    outputs = network.output.size
    beta = norm(output_norm) if output_norm is not None else alpha
    if output_norm is None and outputs == 1 and isinstance(alpha, PolyhedralNorm) and alpha.dim > 1:
        beta = norm("linf")  # which on one output is the absolute value
    directions = alpha.ball(network.input.size)
    return functional_set(functional, beta, outputs), directions


def homogenized(
    network: Network, domain: Domain, directions: SymmetricSet
) -> tuple[Network, Domain, SymmetricSet]:
    """Return the same problem on a bounded domain (:mod:`lipexact.problem.homogenize`)."""
    if not isinstance(domain, Reals):
        return network, domain, directions
    whole = Homogenization(network)
    return whole.network, whole.domain, whole.directions(directions)


class Drafts:
    """The problem in each mode, made once and put on one bounded domain after another.

    Neither the graph nor the norms depend on the domain.

    Parameters
    ----------
    network, functionals, directions
        f, C and V.
    keep_output
        Whether f(x) shall be an output of the graph, too.
    """

    def __init__(
        self,
        network: Network,
        functionals: SymmetricSet,
        directions: SymmetricSet,
        *,
        keep_output: bool = False,
    ) -> None:
        self.network = network
        self.functionals = functionals
        self.directions = directions
        self.keep_output = keep_output
        self._made: dict[DerivativeMode, Problem | None] = {}

    def problem(self, mode: DerivativeMode, domain: Domain) -> Problem | None:
        """Return the problem on a domain; None where the norm that the mode needs has no graph."""
        if mode not in self._made:
            self._made[mode] = lipschitz_problem(
                self.network,
                domain,
                self.functionals,
                self.directions,
                mode,
                keep_output=self.keep_output,
            )
        draft = self._made[mode]
        return None if draft is None else draft.with_domain(domain)


def formulate(
    network: Network,
    domain: Domain,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    mode: str,
    deadline: float,
    *,
    keep_output: bool = False,
    known: Mapping[Node, Interval] | None = None,
    drafts: Drafts | None = None,
) -> list[Formulation]:
    """Formulate and bound a problem in each mode that its norms allow, the given mode first.

    Past the deadline there is one mode only.

    Parameters
    ----------
    network, domain, functionals, directions
        f, X, C and V.
    mode
        The mode that comes first, if it is one.
    deadline
        A time of `time.perf_counter`, or infinity.
    keep_output
        Whether f(x) shall be an output of the graph, too.
    known
        What :func:`lipexact.bounds.crown.bound_nodes` returned for the network on the domain.
    drafts
        The problems of the same network and norms on other domains.

    Raises
    ------
    ModelError
        If the network's numbers overflow.
    NormError
        If no mode can state the norms.
    """
    if drafts is None or isinstance(domain, Reals):
        network, domain, directions = homogenized(network, domain, directions)
        drafts = Drafts(network, functionals, directions, keep_output=keep_output)
    formulations: list[Formulation] = []
    for each in sorted(MODES, key=lambda one: one != mode):
        if formulations and time.perf_counter() > deadline:
            break
        with np.errstate(over="ignore", invalid="ignore"):
            problem = drafts.problem(each, domain)
            if problem is None:
                continue
            # The bounds of the network itself serve both modes.
            shared = formulations[0].bounds if formulations else known
            now = time.perf_counter()
            bounds = bound_nodes(
                problem.graph,
                problem.sets,
                shared=shared,
                roundings=problem.roundings,
                deadline=now + max(deadline - now, 0.0) * constants.BOUND_TIME_SHARE,
            )
        formulations.append(Formulation(problem, check_finite(bounds)))
    if not formulations:
        raise NormError(
            "there is no program for these norms: "
            "give the output norm by half-spaces, or the input norm by vertices"
        )
    return formulations


def check_finite(bounds: Bounds) -> Bounds:
    """Return the bounds, once they are known to be finite.

    Raises
    ------
    ModelError
        If the network's numbers overflow.
    """
    if not all(np.isfinite(side).all() for sides in bounds.values() for side in sides):
        raise ModelError(
            "the network's numbers overflow on this domain; scale its weights or inputs"
        )
    return bounds


def in_mode(formulations: list[Formulation], mode: str) -> list[Formulation]:
    """Return the formulations in the mode that is asked for; "auto" asks for all.

    Raises
    ------
    OptionError, NormError
    """
    if not (isinstance(mode, str) and mode in ("auto", *MODES)):
        raise OptionError(f"mode={mode!r} is none of 'auto', 'forward', 'reverse'")
    allowed = [each for each in formulations if mode in ("auto", each.problem.mode)]
    if not allowed:
        raise NormError(
            f"there is no program for these norms in mode {mode!r}: leave the mode to be chosen"
        )
    return allowed


def cheapest(formulations: Sequence[Formulation], lower: float) -> Formulation:
    """Return the formulation that promises the least work, for a lower bound of the constant."""
    return min(formulations, key=lambda each: each.cost(lower))


def blas_threads(network: Network) -> AbstractContextManager[object]:
    """Limit products of matrices to one thread, as most are small, but for large networks."""
    if network.parameters > constants.LARGE_PARAMETERS:
        return nullcontext()
    limited: AbstractContextManager[object] = _pools().limit(limits=1, user_api="blas")
    return limited


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
