"""Cells: sets of linear regions with given states of gates."""

from __future__ import annotations

import numpy as np

from lipexact.certificates.checker.dyadic import Dyadic, stacked, whole, zeros
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.graph.pattern import FREE, ON, States

_HALF = Dyadic(1, -1)


class Cell:
    """The regions with given states of gates, and bounds of the pre-activations on all of them.

    Parameters
    ----------
    states
        For each layer ON, OFF or FREE for each gate, shape (size,).
    lower, upper
        For each layer the bounds of what its gates read, shape (size,).
    """

    def __init__(self, states: list[States], lower: list[Dyadic], upper: list[Dyadic]) -> None:
        self.states = states
        self.lower = lower
        self.upper = upper

    @property
    def open(self) -> bool:
        """True if some gate may have either state."""
        return any((states == FREE).any() for states in self.states)

    def with_gate(self, layer: int, index: int, state: int) -> Cell:
        """Return the part in which a gate has a state."""
        states = list(self.states)
        states[layer] = states[layer].copy()
        states[layer][index] = state
        return Cell(states, list(self.lower), list(self.upper))

    def lines(self, layer: int, rows: Dyadic) -> tuple[Dyadic, Dyadic]:
        """Bound linear forms in y = relu(z) from above by forms in z and constants.

        max(z, 0) is below its chord, and above 0 and z. For -1 <= z <= 3 the chord has the slope
        3 / 4: y <= 3/4 z + 3/4, and -y <= -z, as the line z is the closer one for 3 > 1.

        Parameters
        ----------
        layer
            The layer of y.
        rows
            The forms' coefficients, shape (k, size).

        Returns
        -------
        rows, constants
            Coefficients in z, shape (k, size), and constants, shape (k,).
        """
        states = self.states[layer]
        lower = self.lower[layer]
        upper = self.upper[layer]
        free = whole(states == FREE)
        # Any slope gives a true line: this one is computed in floats.
        low = lower.floats()
        high = upper.floats()
        crossing = (low < 0) & (high > 0) & np.isfinite(high - low)
        ratio = np.where(crossing, high / np.where(crossing, high - low, 1.0), high > 0)
        slope = Dyadic.of(np.where(states == FREE, ratio, states == ON))
        offset = (-(slope * lower)).maximum(upper - slope * upper).positive() * free
        other = whole(np.where(states == FREE, high > -low, states == ON))
        above = rows.positive()
        below = rows - above
        return above * slope + below * other, (above * offset).sum(1)

    def gates(self, layer: int, rows: Dyadic) -> Dyadic:
        """Multiply a zonotope by gates, which may be open.

        Its rows are its centre, and its generators. For a gate a that is 0 or 1, a g lies in
        g / 2 + [-1, 1] |g| / 2: all rows are halved there, and half of the sum of their absolute
        values is a new generator. The interval 3 + [-1, 1] 1, times an open gate, becomes
        3/2 + [-1, 1] 1/2 + [-1, 1] 2, which is [-1, 4].
        """
        states = self.states[layer]
        free = np.flatnonzero(states == FREE)
        kept = rows * (whole(np.where(states == FREE, 1, 2 * (states == ON))) * _HALF)
        reach = abs(rows[:, free]).sum(0) * _HALF
        moving = np.flatnonzero(reach.signs())
        new = np.zeros((moving.size, states.size), dtype=object)
        new[np.arange(moving.size), free[moving]] = reach.integers[moving]
        return stacked([kept, Dyadic(new, reach.exponent)])

    def fixed(self, layer: int, rows: Dyadic) -> tuple[Dyadic, Dyadic]:
        """Multiply rows by fixed gates; the constants are 0.

        Raises
        ------
        RefutedError
            If a row depends on an open gate.
        """
        states = self.states[layer]
        if rows[:, np.flatnonzero(states == FREE)].signs().any():
            raise RefutedError("a gate below is open")
        return rows * whole(states == ON), zeros(rows.shape[0])
