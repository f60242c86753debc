"""Certificates, made of what a search has found: every step is tried out as the checker will check it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from lipexact.bab.driver import branch, fits
from lipexact.bounds.formulation import Formulation
from lipexact.certificates.certificate import FORMAT, VERSION, Certificate, fingerprint
from lipexact.certificates.checker.bodies import RefutedError
from lipexact.certificates.checker.checker import Cell, Verifier
from lipexact.certificates.checker.exact import Dyadic
from lipexact.errors import CertificateError, LipExactError
from lipexact.graph.pattern import FREE, OFF, ON
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import rounded
from lipexact.numerics.sign_relaxation import absolute_multipliers, euclidean_multipliers
from lipexact.problem.homogenize import Homogenization
from lipexact.problem.problem import Problem
from lipexact.regions.feasibility import Empty, Multipliers, decide_region
from lipexact.regions.heuristics import Incumbent
from lipexact.result import Proof, closed
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.polyhedral import HalfSpaces, Hull
from lipexact.sets.unit_balls import CrossPolytope, Cube, EuclideanUnitBall, Stretched, SymmetricSet
from lipexact.state import (
    Decisions,
    Deduction,
    SearchState,
    SearchTask,
    StoppingRule,
    Trace,
    TraceStep,
)

_MOST_VERTICES = 64
_SECONDS = 10.0  # at least, for a proof that the search did not leave behind
_LARGEST = 2_000_000  # parameters of networks that are proven about
_EXTRA = 2000  # nodes that are split anew, where exact bounds are above those of the search
_DIGITS = 4000  # of the longest integer: Python reads no longer ones
_CLOSED = 9e-10  # by which, relative to it, an upper bound may be above the lower one: less than what EXACT leaves

ProofTree = list[list[list[Any]]]


def statement(
    network: Network, domain: Domain, functionals: SymmetricSet, directions: SymmetricSet
) -> dict[str, Any]:
    """What a certificate says that its bounds are of.

    Raises
    ------
    CertificateError
        If there are no certificates for such a network or such norms.
    """
    if network.parameters > _LARGEST:
        raise CertificateError(
            f"there are no certificates for networks of more than {_LARGEST} parameters"
        )
    few = (
        functionals.vertex_count <= max(_MOST_VERTICES, directions.vertex_count)
        or directions.axes is not None
    )
    data = {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "fingerprint": fingerprint(network),
            "inputs": network.input.size,
            "outputs": network.output.size,
        },
        "domain": _domain(network, domain),
        "functionals": _body(functionals),
        "directions": _body(directions),
        "mode": "reverse" if few else "forward",
        "lower": None,
        "upper": None,
        "witness": None,
        "proof": None,
    }
    Verifier(network, data)
    return data


def _domain(network: Network, domain: Domain) -> dict[str, Any]:
    if isinstance(domain, Reals):
        return {"reals": Homogenization(network).scale.tolist()}
    return {
        "lower": domain.lower.tolist(),
        "upper": domain.upper.tolist(),
        "rows": domain.rows.tolist(),
        "limits": domain.limits.tolist(),
        "balls": [{"center": centre.tolist(), "radius": radius} for centre, radius in domain.balls],
    }


def _body(body: SymmetricSet) -> dict[str, Any]:
    factors: Vector = np.ones(body.dim)
    if isinstance(body, Stretched):
        factors, body = body.factors, body.base
    if isinstance(body, Hull):
        points = body.points * factors
        if any(
            Fraction(p) != Fraction(q) * Fraction(f)
            for p, q, f in _triples(points, body.points, factors)
        ):
            raise CertificateError("points of a body are rounded")
        return {"kind": "hull", "points": points.tolist()}
    if isinstance(body, HalfSpaces):
        return {"kind": "halfspaces", "rows": body.rows.tolist()}
    if type(body) not in (Cube, CrossPolytope, EuclideanUnitBall):
        raise CertificateError("there are no certificates for such norms")
    kinds = {Cube: "cube", CrossPolytope: "cross", EuclideanUnitBall: "ball"}
    return {"kind": kinds[type(body)], "factors": factors.tolist()}


def _triples(points: Vector, own: Vector, factors: Vector) -> Iterable[tuple[float, float, float]]:
    return zip(
        points.ravel().tolist(),
        own.ravel().tolist(),
        np.tile(factors, len(own)).tolist(),
        strict=True,
    )


def witness(network: Network, domain: Domain, found: Incumbent) -> dict[str, Any]:
    """The witness of a lower bound, for the network itself also where the domain is all of R^d."""
    whole = Homogenization(network) if isinstance(domain, Reals) else None
    point = found.region.point if whole is None else whole.point(found.region.point)
    direction = found.norm.direction if whole is None else whole.direction(found.norm.direction)
    fractions = [Fraction(entry) for entry in point.tolist()]
    over = math.lcm(*(entry.denominator for entry in fractions))
    if over & (over - 1) == 0 and all(Fraction(float(entry)) == entry for entry in fractions):
        over, entries = 1, [float(entry) for entry in fractions]
    else:
        entries = [int(entry * over) for entry in fractions]
    return {
        "point": entries,
        "over": over,
        "pattern": [
            "".join("1" if state == ON else "0" for state in layer)
            for layer in found.region.pattern
        ],
        "functional": found.norm.functional.tolist(),
        "direction": direction.tolist(),
    }


def make_certificate(
    network: Network,
    domain: Domain,
    claim: dict[str, Any],
    formulations: Sequence[Formulation],
    state: SearchState,
    seconds: float,
) -> tuple[SearchState, Certificate]:
    """Prove a state's bounds, as far as that is possible.

    Parameters
    ----------
    network, domain
        f and X.
    claim
        What is claimed (:func:`statement`).
    formulations
        As they were searched.
    state
        The end of the search. Where its trace is not enough, branch and bound runs now, to the
        upper bound.
    seconds
        What the search took. About as many are spent on a search that starts anew.

    Returns
    -------
    state, certificate
        The state's bounds are those that are proven, where these are about the same.
    """
    data = dict(claim)
    if state.incumbent is not None:
        lower = _prove_lower(network, domain, state.incumbent, data)
        if lower is not None:
            state = replace(state, lower=lower)
    if not math.isfinite(state.upper):
        return state, Certificate(data)
    patience = max(_SECONDS, seconds)
    trace = state.trace or _search_again(formulations, state, time.perf_counter() + patience)
    target = state.upper
    if closed(state.lower, target):
        target = max(target, state.lower * (1 + _CLOSED))
    prover = Prover(network, formulations[0].problem, data, trace, target, patience)
    upper, nodes = prover.run()
    data |= {"upper": upper, "proof": {"nodes": nodes}}
    if upper <= state.upper or closed(state.lower, upper):
        state = replace(state, upper=upper, proof=Proof.CERTIFICATE)
    else:
        told = f"the certificate proves the upper bound {upper:.12g} only"
        state = state.with_diagnostic("certificate", told)
    return state, Certificate(data)


def _search_again(
    formulations: Sequence[Formulation], state: SearchState, deadline: float
) -> Trace:
    """Return the trace of a search for regions above the upper bound, as far as time allows."""
    if not fits([each.problem for each in formulations]):
        return {}
    task = SearchTask(
        formulations=formulations,
        rule=StoppingRule(target=state.upper),
        deadline=deadline,
        keep_trace=True,
    )
    start = SearchState(lower=state.lower, upper=np.inf, incumbent=state.incumbent)
    return branch(start, task).trace or {}


def _prove_lower(
    network: Network, domain: Domain, found: Incumbent, data: dict[str, Any]
) -> float | None:
    """What the best region attains, claimed by the certificate; None where it cannot be shown."""
    data["lower"] = 0.0
    try:
        shown = witness(network, domain, found)
        reached = Verifier(network, data).attained(shown)
    except (RefutedError, LipExactError, OverflowError):
        return None
    lower = rounded(reached)
    data["lower"] = lower if Fraction(lower) <= reached else float(np.nextafter(lower, 0.0))
    data["witness"] = shown
    return float(data["lower"])


class Prover:
    """A proof of an upper bound, from the tree of a search.

    Parameters
    ----------
    network
        f.
    problem
        The question as it was searched, in other coordinates where the domain is all of R^d.
    data
        The statement.
    trace
        How the search has split its nodes.
    target
        The bound to be proven.
    patience
        Seconds that may be spent on nodes which the search did not have.
    """

    def __init__(
        self,
        network: Network,
        problem: Problem,
        data: dict[str, Any],
        trace: Trace,
        target: float,
        patience: float,
    ) -> None:
        self.verifier, self.problem, self.trace = Verifier(network, data), problem, trace
        self.target, self.upper, self.patience, self.extra = (
            Fraction(target),
            Fraction(0),
            patience,
            _EXTRA,
        )

    def run(self) -> tuple[float, ProofTree]:
        """The bound that is proven, at most the target if that was possible, and the tree."""
        nodes: ProofTree = []
        stack: list[tuple[Cell, Decisions | None]] = [(self.verifier.root(), ())]
        while stack:
            cell, decisions = stack.pop()
            steps: list[list[Any]] = []
            start = time.perf_counter()
            stack += self._node(cell, decisions, steps)
            if decisions is None:
                self.patience -= time.perf_counter() - start
            nodes.append(steps)
        upper = float(self.upper)
        return upper if Fraction(upper) >= self.upper else float(np.nextafter(upper, np.inf)), nodes

    def _node(
        self, cell: Cell, decisions: Decisions | None, steps: list[list[Any]]
    ) -> list[tuple[Cell, Decisions | None]]:
        """Fill in the steps of a node, which the search knows by its decisions; what is left, the last one first."""
        while True:
            step = TraceStep() if decisions is None else self.trace.get(decisions, TraceStep())
            hopeful = step.split is None or step.bound <= self.target
            if hopeful and self._prove_bound(cell, steps):
                return []
            if self._tighten(cell, steps) and hopeful and self._prove_bound(cell, steps):
                return []
            failed = [
                each
                for each in step.deductions
                if not self._prove_deduction(cell, decisions or (), each, steps)
            ]
            if failed and self._tighten(cell, steps):
                for each in failed:
                    self._prove_deduction(cell, decisions or (), each, steps)
            if decisions is None or step.split is None:
                return self._unfinished(cell, steps)
            layer, index = step.split
            children = {state: (*decisions, (layer, index, state)) for state in (ON, OFF)}
            for state, other in ((ON, OFF), (OFF, ON)):
                for each in self.trace.get(children[state], TraceStep()).deductions:
                    if (each.layer, each.index, each.state) == (layer, index, other):
                        self._prove_deduction(cell, decisions, each, steps)
            state = int(cell.states[layer][index])
            if state == FREE:
                steps.append(["split", layer, index])
                on, off = self.verifier.split(cell, layer, index)
                return [(off, children[OFF]), (on, children[ON])]
            decisions = children[state]

    def _tighten(self, cell: Cell, steps: list[list[Any]]) -> bool:
        """Whether bounds decide further gates."""
        before = list(cell.states), list(cell.lower), list(cell.upper)
        self.verifier.relax(cell)
        if all((new == old).all() for new, old in zip(cell.states, before[0], strict=True)):
            cell.states, cell.lower, cell.upper = before  # the step is left out
            return False
        steps.append(["relax"])
        return True

    def _prove_deduction(
        self, cell: Cell, decisions: Decisions, deduction: Deduction, steps: list[list[Any]]
    ) -> bool:
        """Whether a gate is decided, or can be."""
        layer, index, state = deduction.layer, deduction.index, deduction.state
        if cell.states[layer][index] != FREE:
            return True
        multipliers = deduction.multipliers
        target = layer, index, OFF if state == ON else ON
        if multipliers is None:
            multipliers = self._explicit(cell, (*decisions, target))
        else:
            multipliers = Multipliers({**multipliers.gates, (layer, index): 1.0}, multipliers.rows)
        if multipliers is None:
            return False
        written = self._written(multipliers)
        try:
            self.verifier.deduce(cell, layer, index, state, *written)
        except RefutedError:
            return False
        steps.append(["deduce", layer, index, state, *written])
        return True

    def _explicit(self, cell: Cell, decisions: Decisions) -> Multipliers | None:
        """What rules out the last decision, in exact arithmetic."""
        last = decisions[-1][0]
        pattern = [np.full(states.size, FREE, dtype=np.int8) for states in cell.states]
        pattern[:last] = [states.copy() for states in cell.states[:last]]
        for layer, index, state in decisions:
            pattern[layer][index] = state
        verdict = decide_region(
            self.problem.network, self.problem.domain, tuple(pattern), with_multipliers=True
        )
        return verdict.multipliers if isinstance(verdict, Empty) else None

    def _written(self, multipliers: Multipliers) -> list[list[Any]]:
        """Multipliers of gates, of the domain's rows, and of its balls, as in the file."""
        domain = self.problem.domain
        values = [*multipliers.gates.values(), *multipliers.rows.values()]
        over = math.lcm(
            *(Fraction(each).denominator for each in values if isinstance(each, Fraction))
        )
        whole = any(isinstance(each, Fraction) for each in values)
        entries = [int(Fraction(each) * over) if whole else each for each in values]
        if whole and max(entries) > 10**_DIGITS:
            entries = [float(each) for each in values]
        gates = [
            [layer, index, entry]
            for (layer, index), entry in zip(multipliers.gates, entries, strict=False)
        ]
        rows: list[Any] = []
        prices: list[Any] = []
        block, count = 2 * domain.dim + 1, domain.limits.size
        for row, entry in zip(multipliers.rows, entries[len(gates) :], strict=True):
            ball, place = divmod(row - count, block)
            if row < count:
                rows.append([row, entry])
            elif place == block - 1:  # those of |x - c| <= z follow from that of sum(z) <= r
                prices.append([ball, entry])
        return [gates, rows, prices]

    def _unfinished(
        self, cell: Cell, steps: list[list[Any]]
    ) -> list[tuple[Cell, Decisions | None]]:
        """What the search has closed by other bounds, or for a reason that it did not keep."""
        self._tighten(cell, steps)
        if self._prove_bound(cell, steps) or self._prove_empty(cell, steps):
            return []
        layer = next((k for k, states in enumerate(cell.states) if (states == FREE).any()), None)
        if layer is None or self.extra <= 0 or self.patience <= 0:
            self.upper = max(self.upper, self._value)
            steps.append(["bound", *self._arguments])
            return []
        self.extra -= 1
        free = np.flatnonzero(cell.states[layer] == FREE)
        index = int(free[(cell.upper[layer] - cell.lower[layer]).floats()[free].argmax()])
        steps.append(["split", layer, index])
        on, off = self.verifier.split(cell, layer, index)
        return [(off, None), (on, None)]

    def _prove_empty(self, cell: Cell, steps: list[list[Any]]) -> bool:
        """Whether no region is left, as far as gates are decided from the first layer on."""
        last = next(
            (k for k, states in enumerate(cell.states) if (states == FREE).any()), len(cell.states)
        )
        pattern = tuple(
            s if k <= last else np.full_like(s, FREE) for k, s in enumerate(cell.states)
        )
        question = self.problem.network, self.problem.domain, pattern
        if not isinstance(decide_region(*question), Empty):
            return False
        verdict = decide_region(*question, with_multipliers=True)
        if not isinstance(verdict, Empty) or verdict.multipliers is None:
            return False
        arguments = self._written(verdict.multipliers)
        try:
            self.verifier.empty(cell, *arguments)
        except RefutedError:
            return False
        steps.append(["empty", *arguments])
        return True

    def _prove_bound(self, cell: Cell, steps: list[list[Any]]) -> bool:
        """Whether the norms in a cell are at most the bound to be proven."""
        found, over = self.verifier.zonotopes(cell)
        self._arguments: list[Any] = []
        try:
            self._value = self.verifier.norm(found, over)
        except RefutedError:  # a spectral norm takes a multiplier
            self._value = Fraction(2) ** 1100
        if self._value > self.target:
            self._sharpened(found, over)
        if self._value > self.target:
            return False
        self.upper = max(self.upper, self._value)
        steps.append(["bound", *self._arguments])
        return True

    def _sharpened(self, found: list[Dyadic], over: list[int] | None) -> None:
        """Try multipliers."""
        free = self.verifier.functionals if self.verifier.forward else self.verifier.directions
        held = self.verifier.directions if self.verifier.forward else self.verifier.functionals
        if free.kind not in ("cube", "ball"):
            return
        rows = [
            each[np.flatnonzero(each.signs().any(axis=1))].floats() * free.factors for each in found
        ]
        if (
            over is None
            and held.kind == free.kind == "ball"
            and all(each.shape[0] == 1 for each in found)
        ):
            matrix = (
                np.vstack([each.floats() for each in found]) * free.factors * held.factors[:, None]
            )
            given: list[Any] = [float(np.linalg.norm(matrix, 2)) * (1 + 1e-11)]
        else:
            given = [_multipliers(each, free.kind) if len(each) > 1 else None for each in rows]
        try:
            value = self.verifier.norm(found, over, given)
        except RefutedError:
            return
        if value < self._value:
            self._value, self._arguments = value, [given]


def _multipliers(rows: Vector, kind: str) -> list[Any]:
    """Return the multipliers that bound the length of a sum of rows with free signs.

    They are those of the rows, and for a cube also those of the columns.
    """
    if kind == "ball":
        return [euclidean_multipliers(rows).tolist()]
    return [each.tolist() for each in absolute_multipliers(rows)]
