"""The linear conditions under which a pattern is that of a linear region with interior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.graph.pattern import FREE, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import columns_read, dense
from lipexact.numerics.lp import System
from lipexact.numerics.rational import Numbers, to_fractions
from lipexact.regions.affine import depends_on_free

# In place of a layer's index, for conditions that are rows of the domain's system.
DOMAIN_ROWS = -1


@dataclass(frozen=True, eq=False)
class SignConditions:
    """Conditions G_i y + g_i > 0 on the variables y of a domain's system.

    The input x is the first part of y (:meth:`lipexact.sets.domain.Domain.system`).

    Attributes
    ----------
    linear, constant
        G and g, of shapes (k, n) and (k,), as floats or Fractions.
    origins
        For each condition the gate that it comes from, as (layer, index), or (DOMAIN_ROWS, index)
        for a row of the system.
    """

    linear: Numbers
    constant: Numbers
    origins: list[tuple[int, int]]

    def __repr__(self) -> str:
        return f"SignConditions({len(self.origins)} conditions on {self.linear.shape[1]} variables)"

    def select(self, mask: npt.NDArray[np.bool_]) -> SignConditions:
        """Return the conditions that a mask of shape (k,) selects."""
        kept = [origin for origin, keep in zip(self.origins, mask.tolist(), strict=True) if keep]
        return SignConditions(self.linear[mask], self.constant[mask], kept)

    def values(self, y: Numbers) -> Numbers:
        """Return G y + g, shape (k,)."""
        return np.asarray(self.linear @ y + self.constant)


def sign_conditions(
    network: Network, system: System, forms: dict[Node, tuple[Numbers, Numbers]], pattern: Pattern
) -> SignConditions:
    """Return the conditions s_i (G_i x + g_i) > 0 of gates, and b - A y > 0 of the domain's system.

    Free gates have no condition. Gates whose pre-activation depends on a free gate are left out as
    well, since their affine map is unknown.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    system
        Of the domain, A y <= b.
    forms
        The affine maps of the nodes under the pattern (:func:`.affine_forms`).
    pattern
        The gates' states s_i: 1 for on, -1 for off.

    Returns
    -------
    SignConditions
        In Fractions if the forms are.

    Examples
    --------
    A gate that reads x_0 - 3 and is off has the condition 3 - x_0 > 0, with the row (-1, 0) and the
    constant 3 if x has two coordinates. The half-space x_0 + x_1 <= 1 of the domain gives the
    condition 1 - x_0 - x_1 > 0.
    """
    linear: list[Numbers] = []
    constant: list[Numbers] = []
    origins: list[tuple[int, int]] = []
    unknown = depends_on_free(network, pattern)
    exact = False
    for layer, (gate, states) in enumerate(zip(network.gates, pattern, strict=True)):
        below, offset = forms[gate.x]
        exact |= below.dtype == object
        chosen = np.flatnonzero((states != FREE) & ~unknown[gate.x])
        signs = np.where(states[chosen] == ON, 1, -1)
        padding = np.zeros((chosen.size, system.lower.size - network.input.size), dtype=int)
        linear.append(np.hstack([signs[:, None] * below[chosen], padding]))
        constant.append(signs * offset[chosen])
        origins += [(layer, i) for i in chosen.tolist()]
    convert = to_fractions if exact else np.asarray
    linear.append(convert(-dense(system.rows)))
    constant.append(convert(system.limits))
    origins += [(DOMAIN_ROWS, row) for row in range(system.limits.size)]
    return SignConditions(np.vstack(linear), np.concatenate(constant), origins)


def responsible_gates(
    network: Network, pattern: Pattern, conditions: SignConditions, support: list[int]
) -> Pattern:
    """Return the part of a pattern that some conditions depend on; all other gates are free.

    These are the gates of the conditions, and the gates through which their pre-activations read
    other nodes. If the conditions exclude each other, no region has the returned states, whatever
    the other gates are.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states.
    conditions
        Of the pattern.
    support
        Indices of conditions.
    """
    wanted: dict[Node, npt.NDArray[np.bool_]] = {}
    kept = tuple(np.full(states.size, FREE, dtype=np.int8) for states in pattern)
    layers = {gate: layer for layer, gate in enumerate(network.gates)}

    def want(node: Node, mask: npt.NDArray[np.bool_]) -> None:
        wanted[node] = wanted.get(node, False) | mask

    for layer, i in (conditions.origins[k] for k in support):
        if layer == DOMAIN_ROWS:
            continue
        kept[layer][i] = pattern[layer][i]
        gate = network.gates[layer]
        want(gate.x, np.arange(gate.size) == i)
    for node in reversed(network.graph.nodes):
        if node not in wanted:
            continue
        match node:
            case Affine():
                for weight, x in node.terms:
                    want(x, columns_read(weight, wanted[node]))
            case Switch():
                layer = layers[node.gate]
                mask = wanted[node]
                kept[layer][mask] = pattern[layer][mask]
                want(node.x, mask & (pattern[layer] == ON))
            case Input() | Conditional():
                pass
            case _:
                assert_never(node)
    return kept
