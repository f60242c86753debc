"""Activation patterns: a state for each gate of a network."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

OFF = 0
ON = 1
# The derivative does not depend on the gate.
FREE = -1

States: TypeAlias = npt.NDArray[np.int8]
# One array of states, shape (size,), for each of `Network.gates`.
Pattern: TypeAlias = tuple[States, ...]


def pattern_summary(pattern: Pattern) -> str:
    """Return how many gates have which state, for `repr`.

    Examples
    --------
    >>> pattern_summary((np.array([ON, OFF, ON]), np.array([FREE])))
    '2 on, 1 off, 1 free'
    """
    counts = {
        name: sum(int((states == state).sum()) for states in pattern)
        for name, state in (("on", ON), ("off", OFF), ("free", FREE))
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no gates"
