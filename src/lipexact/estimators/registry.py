"""The registry of estimators: one decorated function each.

An estimator takes a :class:`Question`, and options as keywords, and returns an :class:`Answer`, or raises
:class:`~lipexact.errors.UnsupportedEstimateError` where its mathematics does not cover the norms, the network or the
size: what it returns holds for what was asked, never for something close to it. Its registration says what it
promises::

    @estimator("fastlip", "upper", "local", norms=ALL_NORMS, networks=ALL_NETWORKS, source="Weng et al., ICML 2018")
    def fastlip(question: Question, *, preactivations: Preactivations = "linear") -> Answer:
        "Interval bounds of the Jacobian."

The tests hold every entry against the exact constant; the first line of the docstring stands in the documentation's
table.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.formulation import Formulation, check_finite, formulate, homogenized
from lipexact.bounds.interval import Bounds, gate_state, intervals
from lipexact.errors import OptionError, UnsupportedEstimateError
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.sets.domains import Domain, Reals
from lipexact.sets.unit_balls import SymmetricSet

Guarantee: TypeAlias = Literal["lower", "heuristic", "upper", "exact"]
Scope: TypeAlias = Literal["local", "global"]
Preactivations: TypeAlias = Literal["linear", "interval"]

ALL_NORMS = "all"
EUCLIDEAN = "l2 to l2, or to functionals with few vertices (linf, an index, vectors)"
ALL_NETWORKS = "all"
CHAINS = "affine layers with a ReLU between each two"

# Vertices of a body of functionals that are bounded one by one.
FOLDED = 64


@dataclass(frozen=True, eq=False)
class EstimateRequest:
    """What an estimator is asked: max c^T J v over the Jacobians J of a network on a domain.

    Attributes
    ----------
    network, domain
        f and X.
    functionals, directions
        C in R^m and V in R^d.
    asked
        The norms and the functional as the caller gave them, by the keywords of :func:`lipexact.lipschitz`.
    deadline
        A time of `time.perf_counter`, or infinity.
    """

    network: Network
    domain: Domain
    functionals: SymmetricSet
    directions: SymmetricSet
    asked: Mapping[str, Any]
    deadline: float = np.inf

    @property
    def everywhere(self) -> bool:
        """Whether the domain is all of R^d."""
        return isinstance(self.domain, Reals)

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() > self.deadline

    @property
    def seconds_left(self) -> float | None:
        """Until the deadline, at least a millisecond; None where there is none."""
        return None if np.isinf(self.deadline) else max(self.deadline - time.perf_counter(), 1e-3)

    @cached_property
    def bounded(self) -> EstimateRequest:
        """The same question on a bounded domain (:mod:`lipexact.problem.homogenize`)."""
        if not self.everywhere:
            return self
        network, domain, directions = homogenized(self.network, self.domain, self.directions)
        return EstimateRequest(
            network, domain, self.functionals, directions, self.asked, self.deadline
        )

    @cached_property
    def bounds(self) -> Bounds:
        """Of the network's nodes on the bounded domain, by linear relaxation."""
        network, domain = self.bounded.network, self.bounded.domain
        return check_finite(
            bound_nodes(network.graph, {network.input: domain}, deadline=self.deadline)
        )

    @cached_property
    def interval_bounds(self) -> Bounds:
        """Those by intervals alone."""
        network, domain = self.bounded.network, self.bounded.domain
        with np.errstate(over="ignore", invalid="ignore"):
            return check_finite(
                intervals(network.graph.nodes, {network.input: (domain.lower, domain.upper)})
            )

    @cached_property
    def states(self) -> list[Vector]:
        """For each layer of gates 1.0 where they are on, all over the bounded domain, 0.0 off, NaN open."""
        return [gate_state(gate, self.bounds) for gate in self.bounded.network.gates]

    def formulations(
        self, functionals: SymmetricSet | None = None, mode: str = "auto"
    ) -> list[Formulation]:
        """What is asked, or of other functionals, in each mode, with bounds (:func:`lipexact.bounds.formulation.formulate`)."""
        asked = self.bounded
        chosen = asked.functionals if functionals is None else functionals
        bodies = chosen, asked.directions
        return formulate(
            asked.network, asked.domain, *bodies, mode, self.deadline, known=self.bounds
        )

    def preactivations(self, which: Preactivations) -> Bounds:
        """The bounds of that name.

        Raises
        ------
        OptionError
        """
        if not (isinstance(which, str) and which in ("linear", "interval")):
            raise OptionError(f"preactivations={which!r} is none of 'linear', 'interval'")
        return self.bounds if which == "linear" else self.interval_bounds


@dataclass(frozen=True)
class EstimatorOutput:
    """What an estimator found.

    Attributes
    ----------
    value
        The bound or estimate.
    details
        Whatever else there is to say, as numbers, strings and lists of them.
    guarantee
        Where it is another one than the registered one.
    proof
        "float" where the guarantee comes from the package's own arithmetic, rounded outward; "solver" where it rests
        on a solver's claim.
    """

    value: float
    details: dict[str, Any] = field(default_factory=dict)
    guarantee: Guarantee | None = None
    proof: str = "float"

    def __post_init__(self) -> None:
        if math.isnan(self.value):  # what overflowed says nothing
            object.__setattr__(self, "value", math.inf)


@dataclass(frozen=True)
class Estimator:
    """An entry of the registry.

    Attributes
    ----------
    name
        What :func:`lipexact.estimate` knows it by.
    guarantee
        "lower" or "upper" for bounds, "heuristic" for neither, "exact" for both.
    scope
        "local": it makes use of the domain; "global": it holds on all of R^d, whatever the domain.
    norms, networks
        What it takes.
    source
        Where it comes from.
    run
        The function.
    """

    name: str
    guarantee: Guarantee
    scope: Scope
    norms: str
    networks: str
    source: str
    run: Callable[..., EstimatorOutput]

    @property
    def about(self) -> str:
        """What it does, in a line."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """Its options, and their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that it does not have.

        Raises
        ------
        OptionError
        """
        for name in options:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise OptionError(
                    f"the estimator {self.name} has no option {name!r}; it has: {known}"
                )


_ESTIMATORS: dict[str, Estimator] = {}
_Run: TypeAlias = Callable[..., EstimatorOutput]


def estimator(
    name: str, guarantee: Guarantee, scope: Scope, *, norms: str, networks: str, source: str
) -> Callable[[_Run], _Run]:
    """Add a function to the registry.

    Raises
    ------
    OptionError
        If the guarantee or the scope is none that there are.
    """
    for what, told, known in (("guarantee", guarantee, Guarantee), ("scope", scope, Scope)):
        if told not in get_args(known):
            raise OptionError(
                f"{what}={told!r} of the estimator {name!r} is none of {', '.join(get_args(known))}"
            )

    def enter(run: _Run) -> _Run:
        _ESTIMATORS[name] = Estimator(name, guarantee, scope, norms, networks, source, run)
        return run

    return enter


def estimators() -> dict[str, Estimator]:
    """All entries by name: lower bounds, heuristics, upper bounds, exact ones."""
    order = get_args(Guarantee)
    return {
        each.name: each
        for each in sorted(
            _ESTIMATORS.values(), key=lambda one: (order.index(one.guarantee), one.name)
        )
    }


def find(name: object) -> Estimator:
    """The entry of that name.

    Raises
    ------
    OptionError
        If there is none.
    """
    if not (isinstance(name, str) and name in _ESTIMATORS):
        raise OptionError(f"method={name!r} is no estimator; there are {', '.join(estimators())}")
    return _ESTIMATORS[name]


def folded(body: SymmetricSet, most: int, what: str) -> Vector:
    """The vertices of a body of functionals, shape (k, m).

    Raises
    ------
    UnsupportedEstimateError
        If there are more than `most`.
    """
    if body.vertex_count > most:
        raise UnsupportedEstimateError(what)
    return np.vstack(list(body.vertices()))
