"""The independent checker: what a certificate claims, proven or refuted in exact rational arithmetic.

This module is the definition of what was computed. It uses no solver and nothing of the search; floats occur as exact
numbers, or as guesses (slopes of lines, a factor of a matrix) that hold whatever they are.

The network is f: R^d -> R^m, with neurons y_i = a_i z_i; the gate a_i is ON (1) where z_i > 0, OFF (0) where z_i < 0.
The constant is the maximum of c^T J v, over functionals c in a body C, directions v in a body V, and the Jacobians J of
the linear regions of f whose interior meets the domain X. A cell is the set of those regions on which z_i >= 0 for some
neurons, said to be ON, and z_i <= 0 for others, said to be OFF. Where z_i is 0 all over a region, that region is in
both cells, and its Jacobian is the same under either gate.

**Lower bound.** At a point inside X every gate is what the witness says: z_i has that sign, or is 0 all around the
point. So the witness's J is that of a region, and c^T J v, for c in C and v in V, a lower bound.

**Upper bound.** A tree of cells, from all regions down: a node may decide gates one way where the other way is
impossible, and is then split by a gate, or empty, or its norms are bounded. That is shown by weak duality, as an upper
bound of a linear form over X, and for the norm by a zonotope that holds J^T c (or J v), whatever the open gates are.

Reals, all of R^d, is the shadow of a box in one dimension more: with x = r z / t for t > 0, and its biases times t, f
becomes t f(r z / t), with the same gates as f, and derivatives by z that are those of f times r.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.certificates.certificate import Certificate, fingerprint, read_certificate
from lipexact.certificates.checker.bodies import ExactSymmetricSet, RefutedError
from lipexact.certificates.checker.domain import ExactDomain, lifted_box
from lipexact.certificates.checker.exact import Dyadic, Weight, number, numbers, stacked, zeros
from lipexact.certificates.report import Check, Claim
from lipexact.errors import CertificateError
from lipexact.graph.ir import Conditional, Input, Node, Switch
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.network import Network
from lipexact.onnx.reader import read_onnx

# What a layer's gates make of rows, and constants.
Rule: TypeAlias = Callable[[int, Dyadic], tuple[Dyadic, Dyadic]]

_HALF = Dyadic(1, -1)


def check(
    model: str | os.PathLike[str] | Network | Any,
    certificate: str | os.PathLike[str] | bytes | Certificate,
) -> Check:
    """Check a certificate against a network, in exact rational arithmetic and without a solver.

    Parameters
    ----------
    model
        A path to an ONNX file, an ``onnx.ModelProto``, or a :class:`Network`, as it was given to :func:`lipschitz`.
    certificate
        A path, the bytes of such a file, or a :class:`Certificate`.

    Returns
    -------
    Check

    Raises
    ------
    CertificateError
        If the certificate is malformed, or of another network.
    ModelError, UnsupportedOperatorError
        If the network cannot be read.
    """
    network = model if isinstance(model, Network) else read_onnx(model)
    data = (
        certificate if isinstance(certificate, Certificate) else read_certificate(certificate)
    ).data
    try:
        if data["model"]["fingerprint"] != fingerprint(network):
            raise CertificateError(
                "the certificate is of another network, or of one that was loaded in another way"
            )
        verifier = Verifier(network, data)
        nodes = [] if data["proof"] is None else data["proof"]["nodes"]
        statement = {name: data[name] for name in ("domain", "functionals", "directions")}
        return Check(_lower(verifier, data), _upper(verifier, data, nodes), len(nodes), statement)
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as failure:
        if isinstance(failure, CertificateError):
            raise
        raise CertificateError(
            f"the certificate is malformed: {type(failure).__name__}: {failure}"
        ) from None


def _lower(verifier: Verifier, data: dict[str, Any]) -> Claim:
    if data["lower"] is None:
        return Claim(None, False, "no lower bound is claimed")
    claim = float(number(data["lower"]))
    try:
        reached = Fraction(0) if claim == 0 else verifier.attained(data["witness"])
    except RefutedError as failure:
        return Claim(claim, False, str(failure))
    return Claim(
        claim,
        reached >= claim,
        "" if reached >= claim else f"the witness attains {float(reached):.17g} only",
    )


def _upper(verifier: Verifier, data: dict[str, Any], nodes: list[Any]) -> Claim:
    if data["upper"] is None:
        return Claim(
            None,
            False,
            "no upper bound is claimed: it rests on floating-point arithmetic, or on a solver",
        )
    claim = float(number(data["upper"]))
    stack = [verifier.root()]
    for position, steps in enumerate(nodes):
        if not stack:
            return Claim(claim, False, f"node {position}: the tree ends before it")
        try:
            stack += _node(verifier, stack.pop(), steps, Fraction(claim))
        except RefutedError as failure:
            return Claim(claim, False, f"node {position}: {failure}")
    return Claim(
        claim,
        not stack,
        f"the domain is not covered: nodes are missing after {len(nodes)}" if stack else "",
    )


def _node(verifier: Verifier, cell: Cell, steps: list[Any], claim: Fraction) -> list[Cell]:
    """What is left to look at, the last one first, after the steps of a node."""
    for position, (name, *arguments) in enumerate(steps):
        if name == "relax":
            verifier.relax(cell, *arguments)
        elif name == "deduce":
            verifier.deduce(cell, *arguments)
        elif position < len(steps) - 1:
            raise RefutedError(f"{name} is not its last step")
        elif name == "split":
            return list(reversed(verifier.split(cell, *arguments)))
        elif name == "empty":
            verifier.empty(cell, *arguments)
            return []
        elif name == "bound":
            found = verifier.norm(*verifier.zonotopes(cell), *arguments)
            if found > claim:
                raise RefutedError(f"its norms are at most {float(found):.17g} only")
            return []
        else:
            raise RefutedError(f"{name!r} is no step")
    raise RefutedError("it is not closed")


class Cell:
    """States of gates, and for each layer bounds of what they read, on all regions that have them."""

    def __init__(self, states: list[States], lower: list[Dyadic], upper: list[Dyadic]) -> None:
        self.states, self.lower, self.upper = states, lower, upper

    @property
    def open(self) -> bool:
        """Whether some gate may have either state."""
        return any((states == FREE).any() for states in self.states)

    def with_gate(self, layer: int, index: int, state: int) -> Cell:
        """The part in which a gate has a state."""
        states = list(self.states)
        states[layer] = states[layer].copy()
        states[layer][index] = state
        return Cell(states, list(self.lower), list(self.upper))

    def lines(self, layer: int, rows: Dyadic) -> tuple[Dyadic, Dyadic]:
        """Upper bounds of forms in y, as forms in z and constants: max(z, 0) is below its chord, above 0 and z."""
        states, lower, upper = self.states[layer], self.lower[layer], self.upper[layer]
        free = _integers(states == FREE)
        low, high = lower.floats(), upper.floats()
        crossing = (low < 0) & (high > 0) & np.isfinite(high - low)
        ratio = np.where(crossing, high / np.where(crossing, high - low, 1.0), high > 0)
        slope = Dyadic.of(np.where(states == FREE, ratio, states == ON))
        offset = (-(slope * lower)).maximum(upper - slope * upper).positive() * free
        other = _integers(np.where(states == FREE, high > -low, states == ON))
        above = rows.positive()
        below = rows - above
        return above * slope + below * other, (above * offset).sum(1)

    def gates(self, layer: int, rows: Dyadic) -> Dyadic:
        """A zonotope, its centre the first row and its generators the others, after gates that may be open."""
        states = self.states[layer]
        free = np.flatnonzero(states == FREE)
        kept = rows * (_integers(np.where(states == FREE, 1, 2 * (states == ON))) * _HALF)
        reach = (
            abs(rows[:, free]).sum(0) * _HALF
        )  # a z for either a lies in z / 2 + [-1, 1] |z| / 2
        moving = np.flatnonzero(reach.signs())
        new = np.zeros((moving.size, states.size), dtype=object)
        new[np.arange(moving.size), free[moving]] = reach.integers[moving]
        return stacked([kept, Dyadic(new, reach.exponent)])

    def known(self, layer: int, rows: Dyadic) -> tuple[Dyadic, Dyadic]:
        """The same where no row depends on an open gate."""
        states = self.states[layer]
        if rows[:, np.flatnonzero(states == FREE)].signs().any():
            raise RefutedError("a gate below is open")
        return rows * _integers(states == ON), zeros(rows.shape[0])


class Verifier:
    """A network, a domain and two bodies, and the steps of which proofs are made.

    Parameters
    ----------
    network
        f.
    data
        A certificate's content, of which the statement is read.
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
        self.functionals, self.directions = (
            ExactSymmetricSet(data["functionals"], network.output.size),
            ExactSymmetricSet(data["directions"], d),
        )
        if data["mode"] not in ("forward", "reverse"):
            raise CertificateError(f"{data['mode']!r} is no mode")
        self.forward = data["mode"] == "forward"
        self._build(network)

    def _build(self, network: Network) -> None:
        """Nodes in order, the input first: their sizes, what they read, and by which matrices."""
        layers = {gate: layer for layer, gate in enumerate(network.gates)}
        at: dict[Node, int] = {network.input: 0}
        self.widths, d = [self.domain.dim], network.input.size
        self.affine: dict[int, tuple[list[tuple[Weight, int]], Dyadic | None]] = {}
        self.switch: dict[int, tuple[int, int]] = {}
        if self.scale is not None:  # x = r z, of which neurons are t times those of x = r z / t
            self.affine[1] = (
                [(Weight(sp.eye_array(d, d + 1, format="csr") * np.append(self.scale, 0.0)), 0)],
                None,
            )
            at[network.input] = 1
            self.widths.append(d)
        for node in network.graph.nodes:
            if isinstance(node, Input | Conditional):
                continue
            at[node] = k = len(self.widths)
            self.widths.append(node.size)
            if isinstance(node, Switch):
                if node.gate.x is not node.x:
                    raise CertificateError(
                        "gates that switch what others read are not supported by certificates"
                    )
                self.switch[k] = at[node.x], layers[node.gate]
                continue
            terms, bias = (
                [(Weight(weight), at[x]) for weight, x in node.terms],
                Dyadic.of(node.bias[None, :]),
            )
            if self.scale is not None:
                terms.append((Weight(np.hstack([np.zeros((node.size, d)), node.bias[:, None]])), 0))
            self.affine[k] = terms, bias if self.scale is None else None
        self.reads, self.output = [at[gate.x] for gate in network.gates], at[network.output]
        self.sizes = [gate.size for gate in network.gates]

    def pull(self, seeds: dict[int, Dyadic], rule: Rule) -> tuple[Dyadic, Dyadic]:
        """Linear forms in nodes, as forms in the input and constants, with a rule for switches."""
        pending, total = dict(seeds), zeros(max(rows.shape[0] for rows in seeds.values()))
        for node in range(len(self.widths) - 1, 0, -1):
            if node not in pending:
                continue
            rows = pending.pop(node)
            if node in self.switch:
                x, layer = self.switch[node]
                rows, constants = rule(layer, rows)
                total, parts = _joined(total, constants), [(x, rows)]
            else:
                terms, bias = self.affine[node]
                total = total if bias is None else _joined(total, (rows * bias).sum(1))
                parts = [(x, weight.times(rows)) for weight, x in terms]
            for x, part in parts:
                pending[x] = _joined(pending[x], part) if x in pending else part
        return _joined(
            pending.get(0, zeros(0, self.widths[0])), zeros(total.shape[0], self.widths[0])
        ), total

    def push(self, rows: Dyadic, rule: Rule, times: Dyadic | None = None) -> dict[int, Dyadic]:
        """What rows in the input become at all nodes, with `times` the biases, by a rule for switches."""
        values = {0: rows}
        for node in range(1, len(self.widths)):
            if node in self.switch:
                x, layer = self.switch[node]
                values[node] = rule(layer, values[x])[0]
            else:
                terms, bias = self.affine[node]
                found = zeros(rows.shape[0], self.widths[node])
                for weight, x in terms:
                    found = _joined(found, weight.transposed.times(values[x]))
                values[node] = found if bias is None or times is None else found + bias * times
        return values

    def root(self) -> Cell:
        """All regions, with what bounds say of them."""
        states = [np.full(size, FREE, dtype=np.int8) for size in self.sizes]
        far = [Dyadic.of(np.full(size, 2.0**1023)) * Dyadic.of(2.0**1023) for size in self.sizes]
        cell = Cell(states, [-each for each in far], far)
        self.relax(cell)
        return cell

    def relax(self, cell: Cell) -> None:
        """Bound what open gates read, by lines through the open gates below, and decide those that cannot change."""
        for layer, states in enumerate(cell.states):
            free = np.flatnonzero(states == FREE)
            if not free.size:
                continue
            rows = np.zeros((2 * free.size, states.size), dtype=object)
            rows[np.arange(free.size), free], rows[np.arange(free.size, 2 * free.size), free] = (
                1,
                -1,
            )
            forms, constants = self.pull({self.reads[layer]: Dyadic(rows)}, cell.lines)
            top = self.domain.support_upper(forms) + constants
            low = (-top[free.size :]).maximum(cell.lower[layer][free])
            high = -(-top[: free.size]).maximum(-cell.upper[layer][free])
            cell.lower[layer], cell.upper[layer] = (
                _placed(each, free, states.size) for each in (low, high)
            )
            cell.states[layer] = states.copy()
            cell.states[layer][free[low.signs() >= 0]] = ON
            cell.states[layer][free[high.signs() <= 0]] = OFF

    def split(self, cell: Cell, layer: int, index: int) -> list[Cell]:
        """The part in which a gate is on, and that in which it is off."""
        self._state(cell, layer, index, decided=False)
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
        """Decide a gate: where it had the other state, a sum that it is part of, of numbers >= 0, would be <= 0."""
        self._state(cell, layer, index, decided=False)
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
        """No region is in the cell: a combination that is > 0 inside of each would be <= 0."""
        top, inside = self._combined(cell, gates, rows, prices)
        if top > 0 or (
            top == 0 and not inside and not any(self._varies(cell, *gate[:2]) for gate in gates)
        ):
            raise RefutedError("its multipliers do not show it to be empty")

    def _combined(
        self, cell: Cell, gates: list[Any], rows: list[Any], prices: list[Any]
    ) -> tuple[Fraction, bool]:
        """At least the maximum on X of sum w_i s_i z_i, s_i = 1 for ON, -1 for OFF, and of X's own slacks, if any."""
        seeds = (
            {self.reads[0]: zeros(1, self.sizes[0])}
            if self.reads
            else {0: zeros(1, self.widths[0])}
        )
        for layer, index, weight in gates:
            sign = 1 if self._state(cell, layer, index, decided=True) == ON else -1
            seed, at = np.zeros((1, self.sizes[layer]), dtype=object), self.reads[layer]
            seed[0, index] = sign
            seeds[at] = _joined(
                seeds.get(at, zeros(1, self.sizes[layer])), Dyadic(seed) * _multiplier(weight)
            )
        forms, constants = self.pull(seeds, cell.lines)
        limits = _sparse(rows, self.domain.limits.shape[1]), _sparse(prices, len(self.domain.balls))
        (top,) = (self.domain.support_upper(forms, *limits) + constants).fractions()
        return top, bool(limits[0].signs().any() or limits[1].signs().any())

    def _varies(self, cell: Cell, layer: int, index: int) -> bool:
        """Whether what a gate reads is not 0 all over the cell's regions."""
        seed = np.zeros((1, self.sizes[layer]), dtype=object)
        seed[0, index] = 1
        forms, constants = self.pull({self.reads[layer]: Dyadic(seed)}, cell.known)
        return bool(forms.signs().any() or constants.signs().any())

    def _state(self, cell: Cell, layer: int, index: int, *, decided: bool) -> int:
        if _natural(index) >= self.sizes[_natural(layer)]:
            raise RefutedError(f"there is no gate {index} in layer {layer}")
        state = int(cell.states[layer][index])
        if (state != FREE) is not decided:
            raise RefutedError(
                f"gate {index} of layer {layer} is {'open' if decided else 'decided'}"
            )
        return state

    def zonotopes(self, cell: Cell) -> tuple[list[Dyadic], list[int] | None]:
        """Those that hold J^T c, or J v, for the vertices c or v of a body, in multiples; None for the unit vectors."""
        held = self.directions if self.forward else self.functionals
        vertices = None if held.kind == "ball" else held.vertices(few=cell.open)
        rows, over = (held.units(), None) if vertices is None else vertices
        if cell.open:
            return [self.zonotope(cell, rows[k : k + 1]) for k in range(rows.shape[0])], over
        everything = self.zonotope(cell, rows)
        return [everything[k : k + 1] for k in range(rows.shape[0])], over

    def norm(
        self, found: list[Dyadic], over: list[int] | None, multipliers: list[Any] | None = None
    ) -> Fraction:
        """At least the norms of what zonotopes hold.

        Where they are those of the unit vectors e_j, by that of J^T c, which is at most the sum of |c_j| times those of
        J^T e_j; or, if there are no generators, as the spectral norm of a matrix.
        """
        held, free = (
            (self.directions, self.functionals)
            if self.forward
            else (self.functionals, self.directions)
        )
        if (
            over is None
            and held.kind == free.kind == "ball"
            and all(each.shape[0] == 1 for each in found)
        ):
            return held.spectral(stacked(found), free, multipliers)
        given = [None] * len(found) if multipliers is None else multipliers
        sizes = [free.zonotope_radius(each, own) for each, own in zip(found, given, strict=True)]
        return (
            held.support_abs(sizes)
            if over is None
            else max(n / q for n, q in zip(sizes, over, strict=True))
        )

    def zonotope(self, cell: Cell, rows: Dyadic) -> Dyadic:
        """One that holds J^T c, or J v, for the c or v in the only row; for each row, where no gate is open."""
        count = rows.shape[0]

        def opening(layer: int, rows: Dyadic) -> tuple[Dyadic, Dyadic]:
            nonlocal count  # of all rows so far: no two switches share a generator
            rows = cell.gates(layer, _padded(rows, count))
            count = rows.shape[0]
            return rows, zeros(count)

        rule: Rule = opening if cell.open else cell.known
        back = None if self.scale is None else Dyadic.of(1 / self.scale)
        if not self.forward:
            forms = self.pull({self.output: rows}, rule)[0]
            return forms if back is None else forms[:, : self.directions.dim] * back
        if back is not None:
            rows = rows * back
            rows = stacked([rows.transposed(), zeros(1, rows.shape[0])]).transposed()
        return self.push(rows, rule)[self.output]

    def attained(self, witness: dict[str, Any]) -> Fraction:
        """|c^T J v| / (|c| |v|), in the norms of the bodies, for the pattern of the region around a point."""
        over = _natural(witness["over"])
        point = stacked([_exact(each).reshaped(1, 1) for each in witness["point"]]).reshaped(1, -1)
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
        values = self.push(point, cell.known, Dyadic(over))
        for layer, (at, given) in enumerate(zip(self.reads, states, strict=True)):
            signs = values[at].signs()[0]
            if ((signs > 0) & (given == OFF) | (signs < 0) & (given == ON)).any():
                raise RefutedError("the witness's pattern is not that of its point")
            if any(
                self._varies(cell, layer, index) for index in np.flatnonzero(signs == 0).tolist()
            ):
                raise RefutedError("the witness's point is on a kink")
        functional = Dyadic.of(numbers(witness["functional"], (self.functionals.dim,))[None, :])
        direction = Dyadic.of(numbers(witness["direction"], (self.directions.dim,))[None, :])
        one, other = (direction, functional) if self.forward else (functional, direction)
        (reached,) = (self.zonotope(cell, one) * other).sum(1).fractions()
        size = self.functionals.gauge(functional) * self.directions.gauge(direction)
        return abs(reached) / size if size else Fraction(0)


def _natural(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CertificateError(f"{value!r} is no natural number")
    return value


def _exact(value: object) -> Dyadic:
    """A number of a file, however long an integer."""
    number(value)
    return Dyadic(value) if isinstance(value, int) else Dyadic.of(float(value))  # type: ignore[arg-type]


def _multiplier(value: object) -> Dyadic:
    found = _exact(value)
    if not found.signs().item() > 0:
        raise RefutedError("a multiplier is not positive")
    return found


def _sparse(pairs: list[Any], size: int) -> Dyadic:
    """Multipliers by index, as one row."""
    found = zeros(1, size)
    for index, value in pairs:
        seed = np.zeros((1, size), dtype=object)
        seed[0, _natural(index)] = 1
        found = found + Dyadic(seed) * _multiplier(value)
    return found


def _integers(values: npt.NDArray[Any]) -> Dyadic:
    return Dyadic(values.astype(int))


def _placed(values: Dyadic, at: npt.NDArray[np.intp], size: int) -> Dyadic:
    whole = np.zeros(size, dtype=object)
    whole[at] = values.integers
    return Dyadic(whole, values.exponent)


def _joined(a: Dyadic, b: Dyadic) -> Dyadic:
    """The sum, where the one with fewer rows is 0 in the others."""
    rows = max(a.shape[0], b.shape[0])
    return _padded(a, rows) + _padded(b, rows)


def _padded(a: Dyadic, rows: int) -> Dyadic:
    if a.shape[0] == rows:
        return a
    return stacked([a, zeros(rows - a.shape[0], *a.shape[1:])])
