"""The steps of which proofs are made, each proven or refuted in exact rational arithmetic.

This module defines what a certificate proves. It uses no solver and nothing of the search; floats
occur as exact numbers, or as guesses (slopes of lines, a factor of a matrix) that hold whatever
they are.

The network is f: R^d -> R^m, with neurons y_i = a_i z_i; the gate a_i is ON (1) where z_i > 0, OFF
(0) where z_i < 0. The constant is the maximum of c^T J v, over functionals c in a symmetric set C,
directions v in a symmetric set V, and the Jacobians J of the linear regions of f whose interior
meets the domain X. A cell is the set of those regions on which z_i >= 0 for some neurons, said to
be ON, and z_i <= 0 for others, said to be OFF. Where z_i is 0 all over a region, that region is in
both cells, and its Jacobian is the same under either gate.

**Lower bound.** At a point inside X every gate is what the witness says: z_i has that sign, or is 0
all around the point. So the witness's J is that of a region, and c^T J v, for c in C and v in V, a
lower bound.

**Upper bound.** A tree of cells, from all regions down: a node may fix gates one way where the
other way is impossible, and is then split by a gate, or empty, or its norms are bounded. That is
shown by weak duality, as an upper bound of a linear form over X, and for the norm by a zonotope
that holds J^T c (or J v), whatever the open gates are.

Reals, all of R^d, is the shadow of a box in one dimension more: with x = r z / t for t > 0, and its
biases times t, f becomes t f(r z / t), with the same gates as f, and derivatives by z that are
those of f times r.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp

from lipexact.certificates.checker.cell import Cell
from lipexact.certificates.checker.domain import ExactDomain, lifted_box
from lipexact.certificates.checker.dyadic import (
    Dyadic,
    Weight,
    added,
    padded,
    placed,
    stacked,
    zeros,
)
from lipexact.certificates.checker.reading import (
    dyadic_number,
    multiplier,
    multiplier_row,
    natural,
    numbers,
)
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.certificates.checker.symmetric_sets import ExactSymmetricSet
from lipexact.errors import CertificateError
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.graph.pattern import FREE, OFF, ON
from lipexact.network import Network

# From a layer and rows in its outputs to rows in what its gates read, and constants.
SwitchRule: TypeAlias = Callable[[int, Dyadic], tuple[Dyadic, Dyadic]]

# More than any float, as the bounds of pre-activations of which nothing is known.
_BEYOND_FLOATS = Dyadic.of(2.0**1023) * Dyadic.of(2.0**1023)


class Verifier:
    """A network, a domain and two symmetric sets, and the steps of which proofs are made.

    Parameters
    ----------
    network
        The network f.
    data
        A certificate's content, of which the statement is read.

    Raises
    ------
    CertificateError
        If the statement is malformed, or the network has gates that switch what others read.
    """

    def __init__(self, network: Network, data: dict[str, Any]) -> None:
        d = network.input.size
        scale = data["domain"].get("reals")
        self.scale = None if scale is None else numbers(scale, (d,))
        if self.scale is not None and not (np.frexp(self.scale)[0] == 0.5).all():
            raise CertificateError("the scale of Reals is made of positive powers of two")
        self.domain = (
            ExactDomain(data["domain"], d)
            if self.scale is None
            else ExactDomain(lifted_box(d), d + 1)
        )
        self.functionals = ExactSymmetricSet(data["functionals"], network.output.size)
        self.directions = ExactSymmetricSet(data["directions"], d)
        if data["mode"] not in ("forward", "reverse"):
            raise CertificateError(f"{data['mode']!r} is no mode")
        self.forward = data["mode"] == "forward"
        self._build(network)

    def _build(self, network: Network) -> None:
        """Store the nodes in order, the input first: their sizes, and what they read."""
        layers = {gate: layer for layer, gate in enumerate(network.gates)}
        position: dict[Node, int] = {network.input: 0}
        self.widths = [self.domain.dim]
        self.affine: dict[int, tuple[list[tuple[Weight, int]], Dyadic | None]] = {}
        self.switch: dict[int, tuple[int, int]] = {}
        if self.scale is not None:  # x = r z, of which neurons are t times those of x = r z / t
            d = network.input.size
            stretch = sp.eye_array(d, d + 1, format="csr") * np.append(self.scale, 0.0)
            self.affine[1] = [(Weight(stretch), 0)], None
            position[network.input] = 1
            self.widths.append(d)
        for node in network.graph.nodes:
            if isinstance(node, Input | Conditional):
                continue
            position[node] = k = len(self.widths)
            self.widths.append(node.size)
            if isinstance(node, Switch):
                if node.gate.x is not node.x:
                    raise CertificateError(
                        "gates that switch what others read are not supported by certificates"
                    )
                self.switch[k] = position[node.x], layers[node.gate]
            else:
                self.affine[k] = self._affine_node(node, position)
        self.reads = [position[gate.x] for gate in network.gates]
        self.output = position[network.output]
        self.sizes = [gate.size for gate in network.gates]

    def _affine_node(
        self, node: Affine, position: dict[Node, int]
    ) -> tuple[list[tuple[Weight, int]], Dyadic | None]:
        """Return the terms and the bias of an affine node; on Reals the bias is a weight of t."""
        terms = [(Weight(weight), position[x]) for weight, x in node.terms]
        if self.scale is None:
            return terms, Dyadic.of(node.bias[None, :])
        bias = np.hstack([np.zeros((node.size, self.scale.size)), node.bias[:, None]])
        return [*terms, (Weight(bias), 0)], None

    @property
    def held(self) -> ExactSymmetricSet:
        """The set whose vertices are held: C in reverse mode, V in forward mode."""
        return self.directions if self.forward else self.functionals

    @property
    def free(self) -> ExactSymmetricSet:
        """The other set, over which the norm of J^T c, or of J v, is a maximum."""
        return self.functionals if self.forward else self.directions

    def pull(self, seeds: dict[int, Dyadic], rule: SwitchRule) -> tuple[Dyadic, Dyadic]:
        """Substitute backwards: turn linear forms in nodes into forms in the input and constants.

        Parameters
        ----------
        seeds
            For each node that takes part its coefficients, shape (k, size).
        rule
            What replaces forms in the outputs of switches.
        """
        pending = dict(seeds)
        total = zeros(max(rows.shape[0] for rows in seeds.values()))
        for node in range(len(self.widths) - 1, 0, -1):
            if node not in pending:
                continue
            rows = pending.pop(node)
            if node in self.switch:
                x, layer = self.switch[node]
                rows, constants = rule(layer, rows)
                total = added(total, constants)
                parts = [(x, rows)]
            else:
                terms, bias = self.affine[node]
                total = total if bias is None else added(total, (rows * bias).sum(1))
                parts = [(x, weight.times(rows)) for weight, x in terms]
            for x, part in parts:
                pending[x] = added(pending[x], part) if x in pending else part
        forms = pending.get(0, zeros(0, self.widths[0]))
        return added(forms, zeros(total.shape[0], self.widths[0])), total

    def push(
        self, rows: Dyadic, rule: SwitchRule, times: Dyadic | None = None
    ) -> dict[int, Dyadic]:
        """Propagate forwards: return what rows in the input become at all nodes.

        Parameters
        ----------
        rows
            Points or directions, shape (k, d).
        rule
            What switches make of rows.
        times
            The factor of the biases; None for 0.
        """
        values = {0: rows}
        for node in range(1, len(self.widths)):
            if node in self.switch:
                x, layer = self.switch[node]
                values[node] = rule(layer, values[x])[0]
            else:
                terms, bias = self.affine[node]
                value = zeros(rows.shape[0], self.widths[node])
                for weight, x in terms:
                    value = added(value, weight.transposed.times(values[x]))
                values[node] = value if bias is None or times is None else value + bias * times
        return values

    def root(self) -> Cell:
        """Return the cell of all regions, relaxed once."""
        states = [np.full(size, FREE, dtype=np.int8) for size in self.sizes]
        far = [Dyadic.of(np.ones(size)) * _BEYOND_FLOATS for size in self.sizes]
        cell = Cell(states, [-each for each in far], far)
        self.relax(cell)
        return cell

    def relax(self, cell: Cell) -> None:
        """Bound what open gates read by lines through the open gates below, and fix gates by that.

        A gate is ON where the lower bound is at least 0, else OFF where the upper one is at most 0.
        """
        for layer, states in enumerate(cell.states):
            free = np.flatnonzero(states == FREE)
            if not free.size:
                continue
            count = free.size
            rows = np.zeros((2 * count, states.size), dtype=object)
            rows[np.arange(count), free] = 1
            rows[np.arange(count, 2 * count), free] = -1
            forms, constants = self.pull({self.reads[layer]: Dyadic(rows)}, cell.lines)
            top = self.domain.support_upper(forms) + constants
            low = (-top[count:]).maximum(cell.lower[layer][free])
            high = -(-top[:count]).maximum(-cell.upper[layer][free])
            cell.lower[layer] = placed(low, free, states.size)
            cell.upper[layer] = placed(high, free, states.size)
            cell.states[layer] = states.copy()
            cell.states[layer][free[low.signs() >= 0]] = ON
            cell.states[layer][free[high.signs() <= 0]] = OFF

    def split(self, cell: Cell, layer: int, index: int) -> list[Cell]:
        """Return the part in which a gate is on, and that in which it is off.

        Raises
        ------
        RefutedError
            If the gate is fixed.
        """
        self._state(cell, layer, index, fixed=False)
        return [cell.with_gate(layer, index, ON), cell.with_gate(layer, index, OFF)]

    def deduce(
        self,
        cell: Cell,
        layer: int,
        index: int,
        state: int,
        gates: list[Any],
        rows: list[Any],
        prices: list[Any],
    ) -> None:
        """Fix the state of a gate by Farkas' multipliers that rule out the other state.

        With the other state, F = sum_k w_k s_k z_k, s_k = 1 for ON and -1 for OFF, is a sum of
        numbers >= 0 on each region. If F <= 0 on X, then either no region has that state, or the
        gate's z_i is 0 on it, so that the region is in the cell with the given state as well.

        For z_0 = x - 1/2, which is on, and z_1 = 1 - 3 x, the multipliers 3 and 1 show that gate 1
        is off: if it were on, 3 z_0 + z_1 = -1/2 would be at least 0. In the file that is
        ``["deduce", 0, 1, 0, [[0, 0, 3], [0, 1, 1]], [], []]``.

        Parameters
        ----------
        cell
            The cell, whose states are changed.
        layer, index, state
            The gate, and the state that it gets.
        gates
            The multipliers w_k as [layer, index, weight], the gate itself among them.
        rows, prices
            The multipliers of the domain's rows and balls as [index, weight].

        Raises
        ------
        RefutedError
            If the multipliers do not rule out the other state.
        """
        self._state(cell, layer, index, fixed=False)
        other = cell.with_gate(layer, index, ON if state == OFF else OFF)
        top, _ = self._combined(other, gates, rows, prices)
        if (
            top > 0
            or state not in (ON, OFF)
            or not any(gate[:2] == [layer, index] for gate in gates)
        ):
            raise RefutedError(f"gate {index} of layer {layer} may have the other state, too")
        cell.states = cell.with_gate(layer, index, state).states

    def empty(self, cell: Cell, gates: list[Any], rows: list[Any], prices: list[Any]) -> None:
        """Prove that no region is in the cell, by Farkas' and Gordan's multipliers.

        A combination F of numbers >= 0, as in :meth:`deduce`, has a maximum over X below 0; or of
        0, and some term is positive inside each region: a slack of the domain, or a z_k whose form
        is not 0.

        For z_0 = x and z_1 = -x, both on, z_0 + z_1 = 0 everywhere, and z_0 is not 0: such regions
        have no interior. With z_0 = 0 x alone, F = 0 would prove nothing: every region has z_0 = 0.

        Raises
        ------
        RefutedError
            If the multipliers do not show it.
        """
        top, has_slack = self._combined(cell, gates, rows, prices)
        if top > 0 or (
            top == 0 and not has_slack and not any(self._varies(cell, *gate[:2]) for gate in gates)
        ):
            raise RefutedError("its multipliers do not show it to be empty")

    def _combined(
        self, cell: Cell, gates: list[Any], rows: list[Any], prices: list[Any]
    ) -> tuple[Fraction, bool]:
        """Bound the maximum of sum w_k s_k z_k over X; True if slacks of X take part."""
        seeds = (
            {self.reads[0]: zeros(1, self.sizes[0])}
            if self.reads
            else {0: zeros(1, self.widths[0])}
        )
        for layer, index, weight in gates:
            sign = 1 if self._state(cell, layer, index, fixed=True) == ON else -1
            node = self.reads[layer]
            seed = np.zeros((1, self.sizes[layer]), dtype=object)
            seed[0, index] = sign
            before = seeds.get(node, zeros(1, self.sizes[layer]))
            seeds[node] = added(before, Dyadic(seed) * multiplier(weight))
        forms, constants = self.pull(seeds, cell.lines)
        mu = multiplier_row(rows, self.domain.limits.shape[1])
        ball_prices = multiplier_row(prices, len(self.domain.balls))
        (top,) = (self.domain.support_upper(forms, mu, ball_prices) + constants).fractions()
        return top, bool(mu.signs().any() or ball_prices.signs().any())

    def _varies(self, cell: Cell, layer: int, index: int) -> bool:
        """Return True if what a gate reads is not 0 all over the cell's regions."""
        seed = np.zeros((1, self.sizes[layer]), dtype=object)
        seed[0, index] = 1
        forms, constants = self.pull({self.reads[layer]: Dyadic(seed)}, cell.fixed)
        return bool(forms.signs().any() or constants.signs().any())

    def _state(self, cell: Cell, layer: int, index: int, *, fixed: bool) -> int:
        """Return the state of a gate, which must be fixed, or must be open."""
        if natural(index) >= self.sizes[natural(layer)]:
            raise RefutedError(f"there is no gate {index} in layer {layer}")
        state = int(cell.states[layer][index])
        if (state != FREE) is not fixed:
            raise RefutedError(f"gate {index} of layer {layer} is {'open' if fixed else 'fixed'}")
        return state

    def zonotopes(self, cell: Cell) -> tuple[list[Dyadic], list[int] | None]:
        """Return zonotopes that hold J^T c, or J v, for the vertices c or v of the held set.

        Returns
        -------
        zonotopes, denominators
            They are for integer multiples of the vertices, the denominators. Where the set has too
            many vertices they are for the unit vectors, and the denominators are None.
        """
        vertices = None if self.held.kind == "ball" else self.held.vertices(few=cell.open)
        rows, denominators = (self.held.units(), None) if vertices is None else vertices
        count = rows.shape[0]
        if cell.open:
            return [self.zonotope(cell, rows[k : k + 1]) for k in range(count)], denominators
        everything = self.zonotope(cell, rows)
        return [everything[k : k + 1] for k in range(count)], denominators

    def is_spectral(self, zonotopes: list[Dyadic], denominators: list[int] | None) -> bool:
        """Return True if the zonotopes are the rows of a matrix between two Euclidean balls."""
        return (
            denominators is None
            and self.held.kind == self.free.kind == "ball"
            and all(each.shape[0] == 1 for each in zonotopes)
        )

    def norm(
        self,
        zonotopes: list[Dyadic],
        denominators: list[int] | None,
        multipliers: list[Any] | None = None,
    ) -> Fraction:
        """Bound the norms of what zonotopes hold.

        Where they are those of the unit vectors e_j, it is by the norm of J^T c, at most the sum of
        |c_j| times those of J^T e_j; or, if there are no generators, the spectral norm of a matrix.

        Parameters
        ----------
        zonotopes, denominators
            As of :meth:`zonotopes`.
        multipliers
            For each zonotope its multipliers, or None; for a spectral norm [t].

        Raises
        ------
        RefutedError
            If the multipliers do not bound the norms.
        """
        if self.is_spectral(zonotopes, denominators):
            return self.held.spectral(stacked(zonotopes), self.free, multipliers)
        given = [None] * len(zonotopes) if multipliers is None else multipliers
        norms = [
            self.free.zonotope_radius(each, own) for each, own in zip(zonotopes, given, strict=True)
        ]
        if denominators is None:
            return self.held.support_abs(norms)
        return max(n / q for n, q in zip(norms, denominators, strict=True))

    def zonotope(self, cell: Cell, rows: Dyadic) -> Dyadic:
        """Return a zonotope that holds J^T c, or J v, for the c or v in the only row.

        Its rows are its centre and its generators. Where no gate is open there are no generators,
        and the rows are J^T c, or J v, for each of several rows.
        """
        count = rows.shape[0]

        def open_gates(layer: int, rows: Dyadic) -> tuple[Dyadic, Dyadic]:
            nonlocal count  # of all rows so far: no two switches share a generator
            rows = cell.gates(layer, padded(rows, count))
            count = rows.shape[0]
            return rows, zeros(count)

        rule: SwitchRule = open_gates if cell.open else cell.fixed
        inverse_scale = None if self.scale is None else Dyadic.of(1 / self.scale)
        if not self.forward:
            forms = self.pull({self.output: rows}, rule)[0]
            if inverse_scale is None:
                return forms
            return forms[:, : self.directions.dim] * inverse_scale
        if inverse_scale is not None:
            rows = rows * inverse_scale
            rows = stacked([rows.transposed(), zeros(1, rows.shape[0])]).transposed()
        return self.push(rows, rule)[self.output]

    def attained(self, witness: dict[str, Any]) -> Fraction:
        """Return |c^T J v| / (|c| |v|), in the norms of the sets, for a witness of a lower bound.

        J is the Jacobian of the region around the witness's point.

        Raises
        ------
        RefutedError
            If the point is not inside the domain, or the pattern is not that of a region around it.
        """
        cell = self._witness_cell(witness)
        functional = Dyadic.of(numbers(witness["functional"], (self.functionals.dim,))[None, :])
        direction = Dyadic.of(numbers(witness["direction"], (self.directions.dim,))[None, :])
        one, other = (direction, functional) if self.forward else (functional, direction)
        (product,) = (self.zonotope(cell, one) * other).sum(1).fractions()
        size = self.functionals.gauge(functional) * self.directions.gauge(direction)
        return abs(product) / size if size else Fraction(0)

    def _witness_cell(self, witness: dict[str, Any]) -> Cell:
        """Return the cell of the witness's pattern, which must be that of a region at its point."""
        over = natural(witness["over"])
        entries = [dyadic_number(each).reshaped(1, 1) for each in witness["point"]]
        point = stacked(entries).reshaped(1, -1)
        if over == 0 or point.shape != (1, self.directions.dim):
            raise RefutedError("the witness's point does not fit the network")
        if self.scale is not None:  # x = r z / t for t = 1
            point = point * Dyadic.of(1 / self.scale)
            point = stacked([point.transposed(), Dyadic([[over]])]).transposed()
        elif not self.domain.inside(point, over):
            raise RefutedError("the witness's point is not inside the domain")
        states = [
            np.array([int(each) for each in layer], dtype=np.int8) for layer in witness["pattern"]
        ]
        if [layer.size for layer in states] != self.sizes or not all(
            np.isin(layer, (OFF, ON)).all() for layer in states
        ):
            raise RefutedError("the witness's pattern does not fit the network")
        cell = Cell(states, [], [])
        values = self.push(point, cell.fixed, Dyadic(over))
        for layer, (node, given) in enumerate(zip(self.reads, states, strict=True)):
            signs = values[node].signs()[0]
            if ((signs > 0) & (given == OFF) | (signs < 0) & (given == ON)).any():
                raise RefutedError("the witness's pattern is not that of its point")
            zero = np.flatnonzero(signs == 0).tolist()
            if any(self._varies(cell, layer, index) for index in zero):
                raise RefutedError("the witness's point is on a kink")
        return cell
