"""What a solver is told: without Pyomo, whose import takes longer than most searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SolveOptions:
    """What a caller may ask of any solver.

    Parameters
    ----------
    time_limit : float, optional
        Wall-clock seconds, handing the model over included.
    gap : float
        Relative gap at which to stop. The absolute gap is always 0.
    threads : int, optional
        Number of threads; None leaves it to the solver.
    extra : Mapping[str, Any]
        Options under the solver's own names. They win over the three above.
    """

    time_limit: float | None = None
    gap: float = 0.0
    threads: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
