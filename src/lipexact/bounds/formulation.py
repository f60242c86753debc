"""What is asked of a network, as programs: the problem in each mode that its norms allow, with bounds."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.interval import Bounds, Interval, gate_state, length_bound
from lipexact.bounds.liveness import live_coordinates
from lipexact.errors import ModelError, NormError, OptionError
from lipexact.graph.ir import Conditional, Node
from lipexact.network import Network
from lipexact.problem.homogenize import Homogenization
from lipexact.problem.problem import MODES, DerivativeMode, Problem, check_domain, lipschitz_problem
from lipexact.sets.domains import Domain, Reals
from lipexact.sets.functionals import Functional, functional_body
from lipexact.sets.norms import Norm, PolyhedralNorm, norm
from lipexact.sets.unit_balls import SymmetricSet

_LARGE = 1_000_000  # parameters of networks whose products of matrices are worth several threads


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
        """For each layer of gates how many the bounds leave open, of those that matter: the program's binaries."""
        graph, bounds = self.problem.graph, self.bounds
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
        """An estimate of the size of the search tree's logarithm, to compare modes by.

        What has to be branched on, by how far the bounds are apart: open gates, and with an l2 norm the squares of
        what depends on continuous variables, which count double. Measured, the mode with the smaller product is the
        faster one, but where the two are close (docs, "Forward and reverse mode").
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
    """What functionals and directions range over; the domain is checked before."""
    check_domain(network, domain, bounded=False)
    return norm_sets(network, input_norm, output_norm, functional)


def norm_sets(
    network: Network, input_norm: str | Norm, output_norm: str | Norm | None, functional: Functional
) -> tuple[SymmetricSet, SymmetricSet]:
    """What functionals and directions range over."""
    if functional is not None and output_norm is not None:
        raise NormError(
            "output_norm measures the whole output; leave it out where a functional is given"
        )
    alpha, outputs = norm(input_norm), network.output.size
    beta = norm(output_norm) if output_norm is not None else alpha
    if output_norm is None and outputs == 1 and isinstance(alpha, PolyhedralNorm) and alpha.dim > 1:
        beta = norm("linf")  # which on one output is the absolute value
    directions = alpha.ball(network.input.size)
    return functional_body(functional, beta, outputs), directions


def homogenized(
    network: Network, domain: Domain, directions: SymmetricSet
) -> tuple[Network, Domain, SymmetricSet]:
    """The same question on a bounded domain (:mod:`lipexact.problem.homogenize`)."""
    if not isinstance(domain, Reals):
        return network, domain, directions
    whole = Homogenization(network)
    return whole.network, whole.domain, whole.directions(directions)


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
    drafts: MutableMapping[DerivativeMode, Problem] | None = None,
) -> list[Formulation]:
    """The question in each mode that its norms allow, that mode first, with bounds; past the deadline only one.

    `known` are what :func:`lipexact.bounds.crown.bound` found for the network on the domain, `drafts` the same
    question's problems on another domain, which are made if they are not there.
    """
    if drafts is None or isinstance(domain, Reals):
        drafts = {}
    network, domain, directions = homogenized(network, domain, directions)
    programs: list[Formulation] = []
    for each in sorted(MODES, key=lambda one: one != mode):
        if programs and time.perf_counter() > deadline:
            break
        with np.errstate(over="ignore", invalid="ignore"):
            problem = drafts.get(each)
            if problem is not None:
                problem = problem.with_domain(domain)
            else:
                problem = lipschitz_problem(
                    network, domain, functionals, directions, each, keep_output=keep_output
                )
            if problem is None:
                continue
            drafts[each] = problem
            shared = programs[0].bounds if programs else known  # of the network itself
            now = time.perf_counter()
            most = (
                now + max(deadline - now, 0.0) * 3 / 4
            )  # of what is left: samples and the solver need some
            roundings = problem.roundings
            bounds = bound_nodes(
                problem.graph, problem.sets, shared=shared, roundings=roundings, deadline=most
            )
        programs.append(Formulation(problem, check_finite(bounds)))
    if not programs:
        raise NormError(
            "there is no program for these norms: give the output norm by half-spaces, or the input norm by vertices"
        )
    return programs


def check_finite(bounds: Bounds) -> Bounds:
    """The bounds, or an error where the network's numbers overflow.

    Raises
    ------
    ModelError
    """
    if not all(np.isfinite(side).all() for sides in bounds.values() for side in sides):
        raise ModelError(
            "the network's numbers overflow on this domain; scale its weights or inputs"
        )
    return bounds


def in_mode(programs: list[Formulation], mode: str) -> list[Formulation]:
    """Those of the mode that is asked for.

    Raises
    ------
    OptionError, NormError
    """
    if not (isinstance(mode, str) and mode in ("auto", *MODES)):
        raise OptionError(f"mode={mode!r} is none of 'auto', 'forward', 'reverse'")
    allowed = [program for program in programs if mode in ("auto", program.problem.mode)]
    if not allowed:
        raise NormError(
            f"there is no program for these norms in mode {mode!r}: leave the mode to be chosen"
        )
    return allowed


def cheapest(formulations: Sequence[Formulation], lower: float) -> Formulation:
    """Return the formulation that promises the least work, for a lower bound of the constant."""
    return min(formulations, key=lambda each: each.cost(lower))


def blas_threads(network: Network) -> AbstractContextManager[object]:
    """One thread for products of matrices, as most are small; of large networks all cores'."""
    if network.parameters > _LARGE:
        return nullcontext()
    limited: AbstractContextManager[object] = _pools().limit(limits=1, user_api="blas")
    return limited


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
