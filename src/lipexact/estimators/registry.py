"""The registry of estimators: one decorated function each.

An estimator takes an :class:`EstimateRequest`, and options as keywords, and returns an
:class:`EstimatorOutput`. It raises :class:`~lipexact.errors.UnsupportedEstimateError` where its
mathematics does not cover the norms, the network or the size: what it returns holds for what was
asked, never for something close to it. Its registration says what it promises::

    @estimator(
        "fastlip",
        "upper",
        "local",
        norms=ALL_NORMS,
        networks=ALL_NETWORKS,
        source="Weng et al., ICML 2018",
    )
    def fastlip(
        request: EstimateRequest, *, preactivations: Preactivations = "linear"
    ) -> EstimatorOutput:
        "Bound the Jacobian's entries by intervals."

A module of :mod:`lipexact.estimators` with such a function is all that a new estimator takes. The
tests hold every entry but the heuristics against the exact constant; the first line of the
docstring stands in the documentation's table.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
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
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.unit_balls import SymmetricSet

Guarantee: TypeAlias = Literal["lower", "heuristic", "upper", "exact"]
Scope: TypeAlias = Literal["local", "global"]
Preactivations: TypeAlias = Literal["linear", "interval"]

ALL_NORMS = "all"
EUCLIDEAN = "l2 to l2, or to functionals with few vertices (linf, an index, vectors)"
ALL_NETWORKS = "all"
CHAINS = "affine layers with a ReLU between each two"
OWN_GATES = "those whose gates switch what they read"


@dataclass(frozen=True, eq=False)
class EstimateRequest:
    """A request to an estimator: bound max c^T J v over the Jacobians J of a network on a domain.

    Attributes
    ----------
    network, domain
        The network f: R^d -> R^m, and the domain X in R^d.
    functionals, directions
        The sets C in R^m and V in R^d over which c and v range.
    asked
        The norms and the functional as the caller gave them, by the keywords of
        :func:`lipexact.lipschitz`.
    deadline
        The end of the time limit, in seconds of :func:`time.perf_counter`, or infinity.
    """

    network: Network
    domain: Domain
    functionals: SymmetricSet
    directions: SymmetricSet
    asked: Mapping[str, Any]
    deadline: float = np.inf

    @property
    def everywhere(self) -> bool:
        """True if the domain is all of R^d."""
        return isinstance(self.domain, Reals)

    @property
    def over(self) -> bool:
        """True if the deadline has passed."""
        return time.perf_counter() > self.deadline

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the deadline, at least 0.001; None if there is no deadline."""
        return None if np.isinf(self.deadline) else max(self.deadline - time.perf_counter(), 1e-3)

    @cached_property
    def bounded(self) -> EstimateRequest:
        """The same request on a compact domain (:mod:`lipexact.problem.homogenize`)."""
        if not self.everywhere:
            return self
        network, domain, directions = homogenized(self.network, self.domain, self.directions)
        return EstimateRequest(
            network, domain, self.functionals, directions, self.asked, self.deadline
        )

    @cached_property
    def bounds(self) -> Bounds:
        """The bounds of the nodes of :attr:`bounded`, by linear relaxation."""
        network = self.bounded.network
        domain = self.bounded.domain
        return check_finite(
            bound_nodes(network.graph, {network.input: domain}, deadline=self.deadline)
        )

    @cached_property
    def interval_bounds(self) -> Bounds:
        """The bounds of the nodes of :attr:`bounded`, by interval arithmetic."""
        network = self.bounded.network
        domain = self.bounded.domain
        with np.errstate(over="ignore", invalid="ignore"):
            return check_finite(
                intervals(network.graph.nodes, {network.input: (domain.lower, domain.upper)})
            )

    @cached_property
    def states(self) -> list[Vector]:
        """The gates' states on all of the compact domain: 1.0 on, 0.0 off, NaN open; per layer."""
        return [gate_state(gate, self.bounds) for gate in self.bounded.network.gates]

    def formulations(
        self, functionals: SymmetricSet | None = None, mode: str = "auto"
    ) -> list[Formulation]:
        """Return the derivative problem in each mode, with bounds of its nodes.

        Parameters
        ----------
        functionals
            Other functionals than the request's; None for these.
        mode
            "forward", "reverse", or "auto" for both.
        """
        request = self.bounded
        return formulate(
            request.network,
            request.domain,
            request.functionals if functionals is None else functionals,
            request.directions,
            mode,
            self.deadline,
            known=self.bounds,
        )

    def preactivations(self, which: Preactivations) -> Bounds:
        """Return :attr:`bounds` for "linear", and :attr:`interval_bounds` for "interval".

        Raises
        ------
        OptionError
            If `which` is neither of these.
        """
        if not (isinstance(which, str) and which in ("linear", "interval")):
            raise OptionError(f"preactivations={which!r} is none of 'linear', 'interval'")
        return self.bounds if which == "linear" else self.interval_bounds


@dataclass(frozen=True)
class EstimatorOutput:
    """The output of an estimator.

    Attributes
    ----------
    value
        The bound or estimate.
    details
        Further results by name: numbers, strings, and lists and dictionaries of them.
    guarantee
        The guarantee of this value, where it is another one than the registered one.
    proof
        "float" where the guarantee comes from the package's own arithmetic, rounded outward;
        "solver" where it rests on a solver's claim; "none" for heuristics.
    """

    value: float
    details: dict[str, Any] = field(default_factory=dict)
    guarantee: Guarantee | None = None
    proof: str = "float"

    def __post_init__(self) -> None:
        if math.isnan(self.value):  # an overflow, which bounds nothing
            object.__setattr__(self, "value", math.inf)


@dataclass(frozen=True)
class Estimator:
    """An entry of the registry.

    Attributes
    ----------
    name
        The name by which :func:`lipexact.estimate` finds it.
    guarantee
        "lower" or "upper" for bounds, "heuristic" for neither, "exact" for both.
    scope
        "local": it uses the domain; "global": it is about all of R^d, whatever the domain.
    norms, networks
        What it takes, in words. An estimator that refuses branches begins with :data:`CHAINS`, and
        names them in its error, as :func:`.chains.chain_weights` does.
    source
        The publication or document that it follows, or "this package".
    run
        The function.
    best_upper_rank
        The place in the order in which "best-upper" tries upper bounds, the cheap ones first; None
        if it does not try this one.
    """

    name: str
    guarantee: Guarantee
    scope: Scope
    norms: str
    networks: str
    source: str
    run: Callable[..., EstimatorOutput]
    best_upper_rank: int | None = None

    @property
    def about(self) -> str:
        """The first line of the function's docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """The options and their defaults: the function's keyword-only parameters."""
        parameters = inspect.signature(self.run).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that the estimator does not have.

        Raises
        ------
        OptionError
            If one of the options is unknown.
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
    name: str,
    guarantee: Guarantee,
    scope: Scope,
    *,
    norms: str,
    networks: str,
    source: str,
    best_upper_rank: int | None = None,
) -> Callable[[_Run], _Run]:
    """Register the decorated function as an estimator; the parameters are those of its entry.

    Raises
    ------
    OptionError
        If the guarantee or the scope is unknown, or "best-upper" is to try what is no upper bound.
    """
    for what, given, known in (("guarantee", guarantee, Guarantee), ("scope", scope, Scope)):
        if given not in get_args(known):
            raise OptionError(
                f"{what}={given!r} of the estimator {name!r} is none of "
                f"{', '.join(get_args(known))}"
            )
    if best_upper_rank is not None and guarantee != "upper":
        raise OptionError(f"the estimator {name!r} with best_upper_rank must be an upper bound")

    def register(run: _Run) -> _Run:
        _ESTIMATORS[name] = Estimator(
            name, guarantee, scope, norms, networks, source, run, best_upper_rank
        )
        return run

    return register


def estimators() -> dict[str, Estimator]:
    """Return all entries by name: lower bounds, heuristics, upper bounds, exact ones."""
    order = get_args(Guarantee)
    return {
        each.name: each
        for each in sorted(
            _ESTIMATORS.values(), key=lambda entry: (order.index(entry.guarantee), entry.name)
        )
    }


def ranked_upper_bounds() -> list[Estimator]:
    """Return the upper bounds that "best-upper" tries, in that order."""
    ranked = [
        (entry.best_upper_rank, entry.name, entry)
        for entry in _ESTIMATORS.values()
        if entry.best_upper_rank is not None
    ]
    return [entry for _, _, entry in sorted(ranked, key=lambda item: item[:2])]


def find(name: object) -> Estimator:
    """Return the entry of that name.

    Raises
    ------
    OptionError
        If there is none.
    """
    if not (isinstance(name, str) and name in _ESTIMATORS):
        raise OptionError(f"method={name!r} is no estimator; there are {', '.join(estimators())}")
    return _ESTIMATORS[name]


def vertex_rows(functionals: SymmetricSet, max_vertices: int, reason: str) -> Vector:
    """Return the vertices of a set of functionals as rows, shape (k, m).

    Raises
    ------
    UnsupportedEstimateError
        With the given reason, if there are more than `max_vertices`.
    """
    if functionals.vertex_count > max_vertices:
        raise UnsupportedEstimateError(reason)
    return np.vstack(list(functionals.vertices()))


_RENAMED = {"Question": "EstimateRequest", "Answer": "EstimatorOutput"}


def __getattr__(name: str) -> Any:
    """Return a class by its former name, with a DeprecationWarning."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} is now {_RENAMED[name]}; the old name will be removed in the next "
        "release",
        DeprecationWarning,
        stacklevel=2,
    )
    return globals()[_RENAMED[name]]
