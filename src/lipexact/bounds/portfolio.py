"""Adaptive portfolio: the minimum of several bounds.

Bounds that have not been the minimum lately are skipped for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lipexact.bounds import constants
from lipexact.graph.pattern import States
from lipexact.numerics.arrays import Vector


class UpperBounds(Protocol):
    """Upper bounds over the regions that have some choice of gates: see :class:`.NormBounds`."""

    @property
    def cost(self) -> float:
        """About how many numbers one choice of gates takes to bound."""

    @property
    def at_once(self) -> int:
        """How many choices fit into one part of a batch."""

    def upper(self, states: Sequence[States]) -> tuple[Vector, list[Vector]]:
        """Return upper bounds, and each gate's share in them."""


class BoundPortfolio:
    """The minimum of bounds: the cheapest first, until another one is smaller for most choices.

    Parameters
    ----------
    bounds
        At least one.
    """

    def __init__(self, bounds: Sequence[UpperBounds]) -> None:
        self._order = sorted(bounds, key=lambda each: each.cost)
        # Batches that a bound is left out, doubled whenever it was the smallest nowhere.
        self._pause = {id(each): 0 for each in bounds}
        self._left = dict(self._pause)

    def upper(self, states: Sequence[States], enough: float) -> tuple[Vector, list[Vector]]:
        """Return upper bounds, and each gate's share in the smallest of them.

        Parameters
        ----------
        states
            For each layer of gates ON, OFF or FREE, shape (b, size).
        enough
            Choices whose bound is at most this are not bounded again.
        """
        first, *others = self._order
        upper, weights = first.upper(states)
        for bounds in others:
            key = id(bounds)
            open_ones = np.flatnonzero(upper > enough)
            if self._left[key] or not open_ones.size:
                self._left[key] = max(self._left[key] - 1, 0)
                continue
            found, shares = bounds.upper([layer[open_ones] for layer in states])
            better = found < upper[open_ones]
            chosen = open_ones[better]
            upper[chosen] = found[better]
            for layer, share in zip(weights, shares, strict=True):
                layer[chosen] = share[better]
            longer = min(2 * self._pause[key] + 1, constants.MAX_PAUSE_BATCHES)
            self._pause[key] = 0 if chosen.size else longer
            self._left[key] = self._pause[key]
            if 2 * chosen.size > open_ones.size:
                self._order.remove(bounds)
                self._order.insert(0, bounds)
        return upper, weights
