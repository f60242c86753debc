"""Gate propagation: which free gates of a node can have which state, by linear programs.

The claims of the linear programs are checked: a bound counts only as weak duality proves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lipexact.bab import constants
from lipexact.graph.evaluate import evaluate
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.numerics.lp import LinearProgram
from lipexact.numerics.rounding import gamma
from lipexact.regions.affine import affine_forms
from lipexact.regions.feasibility import Empty, Multipliers, decide_region
from lipexact.sets.domain import Domain
from lipexact.state import Decisions, Deduction

Indices: TypeAlias = npt.NDArray[np.int32]


class Points:
    """Points of the domain, and the pre-activations of the gates there.

    Parameters
    ----------
    network
        f.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.count = 0
        self._all = np.zeros((64, network.input.size))
        self._values = [np.zeros((64, gate.size)) for gate in network.gates]

    @property
    def dim(self) -> int:
        """The number of coordinates of a point."""
        return int(self._all.shape[1])

    @property
    def full(self) -> bool:
        """Whether no more points should be kept."""
        width = self._all.shape[1] + sum(layer.shape[1] for layer in self._values)
        return self.count * width > constants.MAX_POINT_NUMBERS

    def add(self, points: Vector) -> Indices:
        """Keep new points, of shape (k, d), and return their indices."""
        nodes = evaluate(self._network.graph, {self._network.input: points})
        end = self.count + len(points)
        if end > len(self._all):
            grown = [np.zeros((2 * end, array.shape[1])) for array in (self._all, *self._values)]
            for new, old in zip(grown, (self._all, *self._values), strict=True):
                new[: self.count] = old[: self.count]
            self._all, *self._values = grown
        self._all[self.count : end] = points
        for layer, gate in zip(self._values, self._network.gates, strict=True):
            layer[self.count : end] = nodes[gate.x]
        added = np.arange(self.count, end, dtype=np.int32)
        self.count = end
        return added

    def of(self, indices: Indices) -> Vector:
        """Return some points, shape (k, d)."""
        return self._all[indices]

    def read(self, layer: int, indices: Indices) -> Vector:
        """Return the pre-activations of a layer's gates at some points, shape (k, size)."""
        return self._values[layer][indices]


class _Cut(NamedTuple):  # tuples are made faster than frozen dataclasses, thousands of times
    """The half-spaces linear @ x + constant >= 0 of decisions, and what rounding may lose in them.

    Attributes
    ----------
    linear, constant, errors
        Shapes (k, d), (k,) and (k,).
    decisions
        The decision behind each row.
    """

    linear: Vector
    constant: Vector
    errors: Vector
    decisions: Decisions


class _Maximum(NamedTuple):
    """The maximum of an affine form over a part of the domain.

    Attributes
    ----------
    point
        Where a linear program found it.
    value
        The form's value there.
    bound
        An upper bound of the form on the part, proven by weak duality.
    multipliers
        Makes what proves the bound.
    """

    point: Vector
    value: float
    bound: float
    multipliers: Callable[[], Multipliers]


class GatePropagator:
    """Fixes the free gates of a node whose state follows from the node's decisions.

    Decisions are on gates of the first layers, all of whose other gates have the same state all
    over the node's part of the domain: the pre-activations of the next layer are affine there.

    Parameters
    ----------
    network, domain
        f and X.
    errors
        For each layer of gates what rounding may lose in the affine forms of their
        pre-activations, on the domain.
    """

    def __init__(self, network: Network, domain: Domain, errors: Sequence[Vector]) -> None:
        self.network = network
        self.domain = domain
        self.errors = errors
        self.programs = 0
        self.decided = 0
        self.seconds = {"lp": 0.0, "decide": 0.0}
        self._started = time.perf_counter()
        self.forget()
        self._reach = np.maximum(np.abs(domain.lower), np.abs(domain.upper))
        self._forms: dict[tuple[bytes, ...], list[tuple[Vector, Vector]]] = {}
        form_numbers = domain.dim * max(network.relus, 1)
        self._max_forms = max(constants.MAX_FORM_NUMBERS // form_numbers, 2)

    def forget(self) -> None:
        """Drop all that later answers depend on: points, and where the linear program ended."""
        self.points = Points(self.network)
        self._deductions: list[Deduction] = []
        self._program = LinearProgram(self.domain.system())

    def take_deductions(self) -> tuple[Deduction, ...]:
        """Return the deductions since the last call."""
        taken = tuple(self._deductions)
        self._deductions.clear()
        return taken

    def forms(self, states: Sequence[States], layer: int) -> list[tuple[Vector, Vector]]:
        """Return G and g of the pre-activations G x + g of all layers up to one.

        All gates of the layers below must be fixed.
        """
        key = tuple(below.tobytes() for below in states[:layer])
        if key not in self._forms:
            if len(self._forms) >= self._max_forms:
                self._forms.clear()
            known = affine_forms(self.network, tuple(states))
            self._forms[key] = [known[gate.x] for gate in self.network.gates[: layer + 1]]
        return self._forms[key]

    def propagate(
        self,
        states: Sequence[States],
        decisions: Decisions,
        layer: int,
        points: Indices,
        among: npt.NDArray[np.intp],
    ) -> tuple[States, Indices]:
        """Return the layer's states with those that follow, and points that show others free.

        Parameters
        ----------
        states
            The states of all gates; those below the layer are fixed.
        decisions
            Those of them that were chosen; the others follow from these.
        layer
            The first layer that has free gates.
        points
            Indices of some points in the node's part of the domain.
        among
            The gates of the layer to look at.
        """
        forms = self.forms(states, layer)
        linear, constant = forms[layer]
        width = self.domain.upper - self.domain.lower
        apart = constants.APART * (np.abs(linear) @ width)
        result = states[layer].copy()
        values = self.points.read(layer, points)
        shown = {ON: np.any(values > apart, axis=0), OFF: np.any(values < -apart, axis=0)}
        cut = None
        for state, other in ((ON, OFF), (OFF, ON)):
            for i in among.tolist():
                if result[i] != FREE or shown[state][i]:
                    continue
                if cut is None:
                    cut = self._cut(forms, decisions)
                sign = _sign(state)
                error = self.errors[layer][i]
                maximum = self._maximise(sign * linear[i], sign * constant[i], error, cut)
                if maximum is None:
                    continue
                if maximum.value >= apart[i]:
                    if not self.points.full:
                        points = np.append(points, self.points.add(maximum.point[None, :]))
                        values = self.points.read(layer, points[-1:])[0]
                        shown[ON] |= values > apart
                        shown[OFF] |= values < -apart
                    continue
                proven = maximum.bound <= 0
                if proven or self._is_empty(states, (*decisions, (layer, i, state))):
                    result[i] = other
                    multipliers = maximum.multipliers() if proven else None
                    self._deductions.append(Deduction(layer, i, other, multipliers))
        return result, points

    def find_points(
        self, states: Sequence[States], decisions: Decisions, points: Indices
    ) -> Indices | None:
        """Return points of a node's part of the domain, at least one if one is easily found.

        None means that the last decision leaves nothing of the part.
        """
        if points.size or not decisions:
            return points
        layer, i, state = decisions[-1]
        forms = self.forms(states, layer)
        linear, constant = (_sign(state) * form[i] for form in forms[layer])
        cut = self._cut(forms, decisions[:-1])
        maximum = self._maximise(linear, constant, self.errors[layer][i], cut)
        if maximum is None:
            return points
        if maximum.bound <= 0:
            other = OFF if state == ON else ON
            self._deductions.append(Deduction(layer, i, other, maximum.multipliers()))
            return None
        if maximum.value > 0 and not self.points.full:
            return self.points.add(maximum.point[None, :])
        return points

    def _cut(self, forms: Sequence[tuple[Vector, Vector]], decisions: Decisions) -> _Cut:
        """Cut the linear program to the part of the domain that decisions leave."""
        signed = [(_sign(state), *(form[i] for form in forms[k])) for k, i, state in decisions]
        linear = np.array([sign * row for sign, row, _ in signed]).reshape(-1, self.domain.dim)
        constant = np.array([sign * offset for sign, _, offset in signed])
        self._program.cut(linear, constant)
        sums = gamma(len(decisions) + 4) * (np.abs(linear) @ self._reach + np.abs(constant))
        errors = sums + np.array([self.errors[k][i] for k, i, _ in decisions])
        return _Cut(linear, constant, errors, decisions)

    def _maximise(
        self, linear: Vector, constant: float, error: float, cut: _Cut
    ) -> _Maximum | None:
        """Maximise the form linear @ x + constant over a part of the domain.

        `error` is what rounding may have lost in the form. None means that the solver failed.

        For instance, on 0 <= x <= 2 cut by 1 - x >= 0, the maximum of x - 3 is -2 at x = 1. The
        multiplier 1 of the cut proves it: x - 3 + 1 (1 - x) = -2 everywhere, and what was added is
        not negative on the part. Any other multiplier >= 0 proves a bound, too, a larger one, so
        nothing depends on how well the linear program was solved.
        """
        start = time.perf_counter()
        solution = self._program.maximise(linear)
        self.programs += 1
        maximum = None
        if solution is not None:
            point = solution[0][: linear.size]
            rows, multipliers = np.split(solution[1], [solution[1].size - cut.constant.size])
            combined = (linear + multipliers @ cut.linear)[None, :]
            (bound,) = self.domain.dual_bound(combined, rows[None, :])
            # The doubled errors also cover the rounding of the combined form, which is at most the
            # absolute values behind `cut.errors` and the pads; the last sum, rounded, keeps the
            # sign of the true one.
            bound += multipliers @ cut.constant + constant + 2 * (error + multipliers @ cut.errors)

            def proof() -> Multipliers:
                weights = zip(cut.decisions, multipliers.tolist(), strict=True)
                gates = {(k, i): weight for (k, i, _), weight in weights if weight > 0}
                positive = {k: weight for k, weight in enumerate(rows.tolist()) if weight > 0}
                return Multipliers(gates, positive)

            value = float(linear @ point + constant)
            maximum = _Maximum(point, value, float(bound), proof)
        self.seconds["lp"] += time.perf_counter() - start
        return maximum

    def _is_empty(self, states: Sequence[States], decisions: Decisions) -> bool:
        """Return whether no region has these decisions, in exact arithmetic.

        False, too, where exact arithmetic has taken too much of the time already.
        """
        start = time.perf_counter()
        allowed = constants.DECISION_SHARE * (start - self._started)
        if self.seconds["decide"] > max(constants.DECISION_SECONDS, allowed):
            return False
        pattern = [np.full(layer.size, FREE, dtype=np.int8) for layer in states]
        last = decisions[-1][0]
        pattern[:last] = [layer.copy() for layer in states[:last]]
        for k, i, state in decisions:
            pattern[k][i] = state
        self.decided += 1
        empty = isinstance(decide_region(self.network, self.domain, tuple(pattern)), Empty)
        self.seconds["decide"] += time.perf_counter() - start
        return empty


def _sign(state: int) -> float:
    return 1.0 if state == ON else -1.0
