"""Activation patterns: a state for each gate of a network."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

OFF, ON = 0, 1
FREE = -1  # the derivative does not depend on the gate

States: TypeAlias = npt.NDArray[np.int8]
# One array of states, shape (size,), for each of `Network.gates`.
Pattern: TypeAlias = tuple[States, ...]
