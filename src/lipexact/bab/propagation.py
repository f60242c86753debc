"""Parts of the domain that some gates cut out, by linear programs whose claims are checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lipexact.graph.evaluate import evaluate
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.numerics.lp import LinearProgram
from lipexact.numerics.rounding import gamma
from lipexact.regions.affine import affine_forms
from lipexact.regions.feasibility import Empty, Multipliers, decide_region
from lipexact.sets.domains import Domain

# Which gate (layer, index) was given which state; in the order of layers.
Decisions: TypeAlias = tuple[tuple[int, int, int], ...]
Indices: TypeAlias = npt.NDArray[np.int32]

_APART = (
    1e-7  # of a neuron's reach: what is nearer to 0 may be 0 but for the linear program's tolerance
)
_MOST_NUMBERS = 2**25  # in all points together
_MOST_FORMS = 2**24  # numbers in the affine forms that are kept
_PATIENCE = 1.0, 0.2  # seconds that exact decisions may take, and share of the time


class Points:
    """Points of the domain, and what the gates read there."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.count = 0
        self._all = np.zeros((64, network.input.size))
        self._values = [np.zeros((64, gate.size)) for gate in network.gates]

    @property
    def dim(self) -> int:
        """How many coordinates a point has."""
        return int(self._all.shape[1])

    @property
    def full(self) -> bool:
        """Whether no more should be kept."""
        width = self._all.shape[1] + sum(layer.shape[1] for layer in self._values)
        return self.count * width > _MOST_NUMBERS

    def add(self, points: Vector) -> Indices:
        """The indices of new points, shape (k, d)."""
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
        """Some points, shape (k, d)."""
        return self._all[indices]

    def read(self, layer: int, indices: Indices) -> Vector:
        """What a layer's gates read at some points, shape (k, size)."""
        return self._values[layer][indices]


@dataclass(frozen=True, eq=False)
class Deduction:
    """A gate's state that follows, and what rules the other one out; None where exact arithmetic did."""

    layer: int
    index: int
    state: int
    multipliers: Multipliers | None


class GatePropagator:
    """Which open gates can have which state in the part of the domain that some decisions leave.

    Decisions are on gates of the first layers, all of whose other gates have the same state all over the part: what the
    next layer's gates read is affine there.

    Parameters
    ----------
    network, domain
        f and X.
    errors
        For each layer of gates what rounding may lose in the affine forms of what they read, on the domain.
    """

    def __init__(self, network: Network, domain: Domain, errors: Sequence[Vector]) -> None:
        self.network, self.domain, self.errors = network, domain, errors
        self.programs = self.decided = 0
        self.seconds = {"lp": 0.0, "decide": 0.0}
        self._started = time.perf_counter()
        self.forget()
        self._reach = np.maximum(np.abs(domain.lower), np.abs(domain.upper))
        self._forms: dict[tuple[bytes, ...], list[tuple[Vector, Vector]]] = {}
        self._most = max(_MOST_FORMS // (domain.dim * max(network.relus, 1)), 2)

    def forget(self) -> None:
        """Keep nothing that later answers depend on: neither points nor where the linear program ended."""
        self.points = Points(self.network)
        self.deductions: list[Deduction] = []  # of all calls, until somebody takes them
        self._program = LinearProgram(self.domain.system())

    def forms(self, states: Sequence[States], layer: int) -> list[tuple[Vector, Vector]]:
        """G and g of what the gates read, for all layers up to one, where all gates below are decided."""
        key = tuple(below.tobytes() for below in states[:layer])
        if key not in self._forms:
            if len(self._forms) >= self._most:
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
        """The layer's states with those that follow from the decisions, and points that show the others to be open.

        Parameters
        ----------
        states
            Of all gates; those below the layer are decided.
        decisions
            Which of them were chosen; the others follow from these.
        layer
            The first that has free gates.
        points
            Some that lie in the part.
        among
            The gates of the layer to look at.
        """
        forms = self.forms(states, layer)
        linear, constant = forms[layer]
        apart = _APART * (np.abs(linear) @ (self.domain.upper - self.domain.lower))
        found, values = states[layer].copy(), self.points.read(layer, points)
        shown = {ON: np.any(values > apart, axis=0), OFF: np.any(values < -apart, axis=0)}
        cut = None
        for state, other in ((ON, OFF), (OFF, ON)):
            for i in among.tolist():
                if found[i] != FREE or shown[state][i]:
                    continue
                if cut is None:
                    cut = self._cut(forms, decisions)
                sign = _sign(state)
                outcome = self._farthest(
                    sign * linear[i], sign * constant[i], self.errors[layer][i], cut, decisions
                )
                if outcome is None:
                    continue
                point, value, most, multipliers = outcome
                if value >= apart[i]:
                    if not self.points.full:
                        points = np.append(points, self.points.add(point[None, :]))
                        values = self.points.read(layer, points[-1:])[0]
                        shown[ON] |= values > apart
                        shown[OFF] |= values < -apart
                elif most <= 0 or self._empty(states, (*decisions, (layer, i, state))):
                    found[i] = other
                    self.deductions.append(
                        Deduction(layer, i, other, multipliers() if most <= 0 else None)
                    )
        return found, points

    def find_points(
        self, states: Sequence[States], decisions: Decisions, points: Indices
    ) -> Indices | None:
        """Points of a part, at least one if it was easily found; None where the last decision leaves nothing of it."""
        if points.size or not decisions:
            return points
        layer, i, state = decisions[-1]
        forms = self.forms(states, layer)
        linear, constant = (_sign(state) * form[i] for form in forms[layer])
        before = decisions[:-1]
        outcome = self._farthest(
            linear, constant, self.errors[layer][i], self._cut(forms, before), before
        )
        if outcome is None:
            return points
        point, value, most, multipliers = outcome
        if most <= 0:
            self.deductions.append(Deduction(layer, i, OFF if state == ON else ON, multipliers()))
            return None
        return self.points.add(point[None, :]) if value > 0 and not self.points.full else points

    def _cut(
        self, forms: Sequence[tuple[Vector, Vector]], decisions: Decisions
    ) -> tuple[Vector, Vector, Vector]:
        rows = [
            (_sign(state) * forms[k][0][i], _sign(state) * forms[k][1][i])
            for k, i, state in decisions
        ]
        linear = np.array([row for row, _ in rows]).reshape(-1, self.domain.dim)
        constant = np.array([offset for _, offset in rows])
        self._program.cut(linear, constant)
        sums = gamma(len(decisions) + 4) * (np.abs(linear) @ self._reach + np.abs(constant))
        return linear, constant, sums + np.array([self.errors[k][i] for k, i, _ in decisions])

    def _farthest(
        self,
        linear: Vector,
        constant: float,
        error: float,
        cut: tuple[Vector, Vector, Vector],
        decisions: Decisions,
    ) -> tuple[Vector, float, float, Callable[[], Multipliers]] | None:
        """A point of the part with the largest value of a form, that value, a bound of it, and what proves that."""
        start = time.perf_counter()
        found = self._program.maximise(linear)
        self.programs += 1
        outcome = None
        if found is not None:
            point, (rows, multipliers) = (
                found[0][: linear.size],
                np.split(found[1], [found[1].size - cut[1].size]),
            )
            # Weak duality: whatever the multipliers, as long as none is negative.
            (most,) = self.domain.dual_bound(
                (linear + multipliers @ cut[0])[None, :], rows[None, :]
            )
            # The doubled errors also hold the roundings of the combined form, of at most the absolute values behind
            # `cut[2]` and the pads; the last sum, rounded, keeps the sign of the true one.
            most += multipliers @ cut[1] + constant + 2 * (error + multipliers @ cut[2])

            def proof() -> Multipliers:
                gates = {
                    (k, i): w
                    for (k, i, _), w in zip(decisions, multipliers.tolist(), strict=True)
                    if w > 0
                }
                return Multipliers(gates, {k: w for k, w in enumerate(rows.tolist()) if w > 0})

            outcome = point, float(linear @ point + constant), float(most), proof
        self.seconds["lp"] += time.perf_counter() - start
        return outcome

    def _empty(self, states: Sequence[States], decisions: Decisions) -> bool:
        """Whether no region has these decisions, in exact arithmetic; False where that takes too long."""
        start = time.perf_counter()
        if self.seconds["decide"] > max(_PATIENCE[0], _PATIENCE[1] * (start - self._started)):
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
