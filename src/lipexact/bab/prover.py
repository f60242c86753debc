"""Certificates, made from the trace of a search: every step is tried as the checker checks it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from lipexact.bab import constants
from lipexact.bab.driver import branch, fits
from lipexact.bab.statement import witness
from lipexact.bounds.formulation import Formulation
from lipexact.certificates.certificate import Certificate
from lipexact.certificates.checker.cell import Cell
from lipexact.certificates.checker.dyadic import Dyadic
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.certificates.checker.symmetric_sets import ExactSymmetricSet
from lipexact.certificates.checker.verifier import Verifier
from lipexact.errors import LipExactError
from lipexact.graph.pattern import FREE, OFF, ON
from lipexact.network import Network
from lipexact.numerics.rounding import rounded
from lipexact.numerics.sign_relaxation import absolute_multipliers, euclidean_multipliers
from lipexact.problem.problem import Problem
from lipexact.regions.feasibility import Empty, Multipliers, decide_region
from lipexact.regions.heuristics import Incumbent
from lipexact.result import Proof, closed
from lipexact.sets.domain import Domain
from lipexact.state import (
    Decisions,
    Deduction,
    SearchState,
    SearchTask,
    StoppingRule,
    Trace,
    TraceStep,
)

# For each node its steps, each a name and its arguments.
ProofTree = list[list[list[Any]]]


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
    patience = max(constants.MIN_PROOF_SECONDS, seconds)
    trace = state.trace or _search_again(formulations, state, time.perf_counter() + patience)
    target = state.upper
    if closed(state.lower, target):
        target = max(target, state.lower * (1 + constants.CLOSED_GAP))
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
    network: Network, domain: Domain, incumbent: Incumbent, data: dict[str, Any]
) -> float | None:
    """Write what the incumbent attains into the certificate; None if it cannot be proven."""
    data["lower"] = 0.0
    try:
        shown = witness(network, domain, incumbent)
        attained = Verifier(network, data).attained(shown)
    except (RefutedError, LipExactError, OverflowError):
        return None
    lower = rounded(attained)
    data["lower"] = lower if Fraction(lower) <= attained else float(np.nextafter(lower, 0.0))
    data["witness"] = shown
    return float(data["lower"])


class Prover:
    """A proof of an upper bound, from the tree of a search.

    Parameters
    ----------
    network
        The network f.
    problem
        The problem as it was searched, in other coordinates where the domain is all of R^d.
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
        self.verifier = Verifier(network, data)
        self.problem = problem
        self.trace = trace
        self.target = Fraction(target)
        self.upper = Fraction(0)
        self.patience = patience
        self.extra = constants.MAX_EXTRA_NODES

    def run(self) -> tuple[float, ProofTree]:
        """Return the bound that is proven, and the tree.

        The bound is at most the target if that was possible.
        """
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
        """Fill in the steps of a node, and return its children, the one with the gate off first.

        The search knows a node by its decisions; None stands for a node that it did not have.
        """
        while True:
            step = TraceStep() if decisions is None else self.trace.get(decisions, TraceStep())
            hopeful = step.split is None or step.bound <= self.target
            if hopeful and self._prove_bound(cell, steps):
                return []
            if self._tighten(cell, steps) and hopeful and self._prove_bound(cell, steps):
                return []
            self._prove_deductions(cell, decisions or (), step.deductions, steps)
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
            # The gate is fixed by now: this node is the child with that state.
            decisions = children[state]

    def _tighten(self, cell: Cell, steps: list[list[Any]]) -> bool:
        """Relax a cell, and return True if that fixes further gates; else leave the step out."""
        states = list(cell.states)
        lower = list(cell.lower)
        upper = list(cell.upper)
        self.verifier.relax(cell)
        if all((new == old).all() for new, old in zip(cell.states, states, strict=True)):
            cell.states = states
            cell.lower = lower
            cell.upper = upper
            return False
        steps.append(["relax"])
        return True

    def _prove_deductions(
        self,
        cell: Cell,
        decisions: Decisions,
        deductions: Iterable[Deduction],
        steps: list[list[Any]],
    ) -> None:
        """Prove a node's deductions; those that fail are tried once more after a relaxation."""
        failed = [
            each for each in deductions if not self._prove_deduction(cell, decisions, each, steps)
        ]
        if failed and self._tighten(cell, steps):
            for each in failed:
                self._prove_deduction(cell, decisions, each, steps)

    def _prove_deduction(
        self, cell: Cell, decisions: Decisions, deduction: Deduction, steps: list[list[Any]]
    ) -> bool:
        """Fix a gate's state by multipliers; True if it is fixed now, or was before."""
        layer = deduction.layer
        index = deduction.index
        state = deduction.state
        if cell.states[layer][index] != FREE:
            return True
        multipliers = deduction.multipliers
        ruled_out = layer, index, OFF if state == ON else ON
        if multipliers is None:
            multipliers = self._exact_multipliers(cell, (*decisions, ruled_out))
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

    def _exact_multipliers(self, cell: Cell, decisions: Decisions) -> Multipliers | None:
        """Return multipliers that rule out the last decision, by exact arithmetic; None if none."""
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
        """Return multipliers of gates, of the domain's rows, and of its balls, as in the file.

        Fractions are multiplied by their common denominator, so that the file has integers: 1/2 and
        1/3 are written as 3 and 2.
        """
        domain = self.problem.domain
        values = [*multipliers.gates.values(), *multipliers.rows.values()]
        fractions = [each for each in values if isinstance(each, Fraction)]
        denominator = math.lcm(*(each.denominator for each in fractions))
        entries = [int(Fraction(each) * denominator) if fractions else each for each in values]
        if fractions and max(entries) > 10**constants.MAX_INTEGER_DIGITS:
            entries = [float(each) for each in values]
        gates = [
            [layer, index, entry]
            for (layer, index), entry in zip(multipliers.gates, entries, strict=False)
        ]
        rows: list[Any] = []
        prices: list[Any] = []
        # The region's program writes each ball |x - c|_1 <= r as 2 d rows |x - c| <= z and one
        # row sum(z) <= r, after the domain's own rows.
        block = 2 * domain.dim + 1
        count = domain.limits.size
        for row, entry in zip(multipliers.rows, entries[len(gates) :], strict=True):
            ball, place = divmod(row - count, block)
            if row < count:
                rows.append([row, entry])
            elif place == block - 1:  # the multipliers of |x - c| <= z follow from this one
                prices.append([ball, entry])
        return [gates, rows, prices]

    def _unfinished(
        self, cell: Cell, steps: list[list[Any]]
    ) -> list[tuple[Cell, Decisions | None]]:
        """Close a node that the search has closed by other bounds, or split it further.

        The search may have had a reason that it did not keep.
        """
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
        """Prove that no region is in the cell, by the gates that are fixed from layer 0 on."""
        last = next(
            (k for k, states in enumerate(cell.states) if (states == FREE).any()), len(cell.states)
        )
        pattern = tuple(
            states if k <= last else np.full_like(states, FREE)
            for k, states in enumerate(cell.states)
        )
        network = self.problem.network
        domain = self.problem.domain
        if not isinstance(decide_region(network, domain, pattern), Empty):
            return False
        verdict = decide_region(network, domain, pattern, with_multipliers=True)
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
        """Prove that the norms in a cell are at most the target."""
        zonotopes, denominators = self.verifier.zonotopes(cell)
        self._arguments: list[Any] = []
        try:
            self._value = self.verifier.norm(zonotopes, denominators)
        except RefutedError:  # a spectral norm takes a multiplier
            self._value = Fraction(2) ** 1100
        if self._value > self.target:
            self._sharpen(zonotopes, denominators)
        if self._value > self.target:
            return False
        self.upper = max(self.upper, self._value)
        steps.append(["bound", *self._arguments])
        return True

    def _sharpen(self, zonotopes: list[Dyadic], denominators: list[int] | None) -> None:
        """Lower the bound of the norms by multipliers, where these give a lower one."""
        verifier = self.verifier
        held = verifier.held
        free = verifier.free
        if free.kind not in ("cube", "ball"):
            return
        multipliers: list[Any]
        if verifier.is_spectral(zonotopes, denominators):
            centres = np.vstack([each.floats() for each in zonotopes])
            matrix = centres * free.factors * held.factors[:, None]
            multipliers = [float(np.linalg.norm(matrix, 2)) * (1 + constants.SPECTRAL_MARGIN)]
        else:
            multipliers = [_norm_multipliers(each, free) for each in zonotopes]
        try:
            value = verifier.norm(zonotopes, denominators, multipliers)
        except RefutedError:
            return
        if value < self._value:
            self._value = value
            self._arguments = [multipliers]


def _norm_multipliers(zonotope: Dyadic, free: ExactSymmetricSet) -> list[Any] | None:
    """Return multipliers of a zonotope's rows that are not 0, as in the file; None for one row."""
    used = np.flatnonzero(zonotope.signs().any(axis=1))
    rows = zonotope[used].floats() * free.factors
    if len(rows) <= 1:
        return None
    if free.kind == "ball":
        return [euclidean_multipliers(rows).tolist()]
    return [each.tolist() for each in absolute_multipliers(rows)]
