"""Whether a network is in general position on a domain.

The definition is that of Jordan and Dimakis (NeurIPS 2020, Definition 4). The kernel of a neuron is
the set of inputs at which its pre-activation is 0. Kernels are in general position if no
pre-activation vanishes on a set with interior, and every k kernels meet in dimension at most d - k.
A formulation that lets each neuron at zero choose its state, such as LipMIP, gives the Lipschitz
constant in that case, and may overestimate it in others. :func:`lipexact.lipschitz` certifies
patterns and does not depend on any of this.

Such formulations work on the closed domain, so that "yes" also means that kernels and the sides of
the domain together are in general position. Floats only propose findings: what is reported is
proven in Fractions, or by bounds rounded outward.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.interval import point_bounds
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Affine, Input, Switch, Value
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix
from lipexact.numerics.rational import Numbers, to_fractions
from lipexact.problem.problem import check_domain
from lipexact.regions import constants
from lipexact.regions.affine import affine_forms, depends_on_free, pattern_at
from lipexact.regions.crossings import find_crossings
from lipexact.regions.position_report import (
    Crossing,
    LayerCounts,
    Neuron,
    PositionReport,
    VanishingNeuron,
    names_of,
)
from lipexact.sets.domain import Domain


def position_report(network: Network, domain: Domain) -> PositionReport:
    """Report which neurons' kernels vanish, coincide, or meet in too high a dimension.

    It is decided as far as that is cheap: in most cases for networks with one hidden layer, two or
    three inputs and a few dozen neurons. Where kernels of neurons cross that read neurons with a
    kink is not looked at.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        X.

    Returns
    -------
    PositionReport
        Its ``str`` is a plain text.

    Raises
    ------
    DomainError
        If the domain does not fit the network.

    Examples
    --------
    The neurons relu(x) and relu(-x) have the same kernel, {0}:

    >>> from lipexact.sets.domains import Box
    >>> from lipexact.graph.ir import Graph
    >>> from lipexact.graph.lowering import relu
    >>> x = Input(1)
    >>> hidden = relu(Affine(((np.array([[1.0], [-1.0]]), x),), np.zeros(2)))
    >>> identity = Affine(((np.array([[1.0, -1.0]]), hidden),), np.zeros(1))
    >>> network = Network(Graph((x,), (identity,)), (1,), (1,))
    >>> position_report(network, Box([-1], [1])).in_general_position
    False
    """
    check_domain(network, domain)
    with np.errstate(all="ignore"):  # what overflows proves nothing
        return _Examination(network, domain).report()


@dataclass(frozen=True, eq=False)
class _Row:
    """A pre-activation as a linear combination of what its node reads, and of 1.

    Attributes
    ----------
    node
        Whose weights and bias these are; None if the combination is of the network's input.
    columns
        Where the coefficients are not 0.
    values
        The coefficients there, as floats or Fractions.
    """

    node: Value | None
    columns: tuple[int, ...]
    values: Numbers


class _Examination:
    """One examination of a network on a domain.

    Attributes
    ----------
    pattern
        States of neurons that have no kink in the domain; the others are free.
    names
        Of the layers of gates.
    open
        The neurons that may have a kink in the domain.
    bent
        Those of them that read neurons with a kink, so that their own kernels may bend.
    kernels
        The others, as (w_1, ..., w_d, b) in Fractions: they are affine on the domain. Nothing if
        that takes too many Fractions.
    points, values
        Samples of the domain, and all nodes' values there.
    fractions_left
        How many Fractions further forms may need.
    """

    def __init__(self, network: Network, domain: Domain) -> None:
        self.network = network
        self.domain = domain
        self.nodes = [gate.x for gate in network.gates]
        self.pattern = _certain_states(network, domain)
        self.names = [
            gate.name.removesuffix("_gate") or f"layer {k}" for k, gate in enumerate(network.gates)
        ]
        self.open = [
            Neuron(layer, i, self.names[layer])
            for layer, states in enumerate(self.pattern)
            for i in np.flatnonzero(states == FREE).tolist()
        ]
        bent = depends_on_free(network, self.pattern)
        self.bent = [neuron for neuron in self.open if bent[self.nodes[neuron.layer]][neuron.index]]
        self.fractions_left = constants.MAX_POSITION_FRACTIONS
        self.kernels = self._forms(self.pattern, set(self.open).difference(self.bent))
        self.points = domain.sample(np.random.default_rng(0), constants.POSITION_SAMPLES)
        self.values = evaluate(network.graph, {network.input: self.points})
        self.undecided: list[str] = []
        self.not_examined: list[str] = []

    def report(self) -> PositionReport:
        """Examine everything, one kind of violation after the other."""
        rows = self._rows()
        vanishing = [VanishingNeuron(neuron, None) for neuron in rows if not rows[neuron].columns]
        coinciding = self._coinciding(rows)
        repeated = {neuron for group in coinciding for neuron in group[1:]}
        repeated.update(found.neuron for found in vanishing)
        crowded = self._crowded(repeated)
        self._note_limits()
        vanishing += self._vanishing_around_samples()
        return PositionReport(
            layers=tuple(map(_counts, self.names, self.pattern)),
            vanishing=tuple(vanishing),
            coinciding=tuple(coinciding),
            crowded=tuple(crowded),
            undecided=tuple(self.undecided),
            not_examined=tuple(self.not_examined),
        )

    # --- The neurons' pre-activations ------------------------------------------------------------

    def _forms(self, pattern: Pattern, neurons: Iterable[Neuron]) -> dict[Neuron, Numbers]:
        """Return neurons' forms under a pattern as (w_1, ..., w_d, b) in Fractions.

        Nothing is returned if that takes more Fractions than are left.
        """
        self.fractions_left -= self._fractions_for(pattern)
        if self.fractions_left < 0:
            return {}
        forms = affine_forms(self.network, pattern, exact=True)
        result = {}
        for neuron in neurons:
            linear, constant = forms[self.nodes[neuron.layer]]
            result[neuron] = np.append(linear[neuron.index], constant[neuron.index])
        return result

    def _fractions_for(self, pattern: Pattern) -> int:
        """Count the Fractions for all forms under a pattern: those that are off cost nothing."""
        on = {
            gate: int((states == ON).sum())
            for gate, states in zip(self.network.gates, pattern, strict=True)
        }
        total = 0
        for node in self.network.graph.nodes:
            if not isinstance(node, Affine):
                continue
            for _, x in node.terms:
                if isinstance(x, Switch):
                    used = on[x.gate]
                elif isinstance(x, Input):
                    used = 0
                else:
                    used = x.size
                total += node.size * (x.size + used * self.domain.dim)
        return total

    def _rows(self) -> dict[Neuron, _Row]:
        """Return the pre-activations of open neurons: of the input where that is known."""
        rows: dict[Neuron, _Row] = {}
        weights = [_weights(node) if isinstance(node, Affine) else None for node in self.nodes]
        for neuron in self.open:
            matrix = weights[neuron.layer]
            if neuron in self.kernels:
                kernel = self.kernels[neuron]
                columns = np.flatnonzero(kernel)
                rows[neuron] = _Row(None, tuple(columns.tolist()), kernel[columns])
            elif matrix is not None:
                part = slice(*matrix.indptr[neuron.index : neuron.index + 2])
                columns = matrix.indices[part]
                node = self.nodes[neuron.layer]
                rows[neuron] = _Row(node, tuple(columns.tolist()), matrix.data[part])
        return rows

    # --- Violations ------------------------------------------------------------------------------

    def _coinciding(self, rows: Mapping[Neuron, _Row]) -> list[tuple[Neuron, ...]]:
        """Return groups of neurons with the same kernel, if that is proven to cross the domain."""
        coinciding = []
        for group in _proportional({neuron: row for neuron, row in rows.items() if row.columns}):
            if self._crosses(group[0]):
                coinciding.append(group)
            else:
                self.undecided.append(
                    f"{names_of(group)}: the same kernel, if it crosses the domain"
                )
        return coinciding

    def _crosses(self, neuron: Neuron) -> bool:
        """Return True if a pre-activation is proven to take both signs inside the domain."""
        node = self.nodes[neuron.layer]
        i = neuron.index
        if neuron in self.kernels:
            slope = self.kernels[neuron][:-1]
            scaled = (slope / (max(abs(slope)) or 1)).astype(np.float64)
            ends = self.domain.pull(self.domain.maximisers(np.array([scaled, -scaled])))
        else:
            ends = self.points[np.argsort(self.values[node][:, i])[[-1, 0]]]
        high, low = (
            point_bounds(self.network.graph.nodes, self.network.input, end)[node] for end in ends
        )
        return bool(high[0][i] > 0 > low[1][i] and (self.domain.margin(ends) > 0).all())

    def _crowded(self, repeated: set[Neuron]) -> list[Crossing]:
        """Return affine kernels, but for repeated ones, that meet in too high a dimension."""
        chosen = sorted(self.kernels.keys() - repeated)
        if not chosen:
            return []
        search = find_crossings({neuron: self.kernels[neuron] for neuron in chosen}, self.domain)
        if not search.complete:
            self.not_examined.append(
                f"where the kernels of {len(chosen)} neurons, affine on the domain, cross, but for "
                "a few points"
            )
        if search.undecided:
            self.undecided.append(
                f"{names_of(search.undecided)}: on the border of the domain, where their kernels "
                "touch it or meet in too many"
            )
        return search.crossings

    def _vanishing_around_samples(self) -> list[VanishingNeuron]:
        """Return bent neurons whose pre-activation is 0 around a sampled point."""
        found: dict[Neuron, VanishingNeuron] = {}
        for k, point in enumerate(self.points):
            suspects = [
                neuron
                for neuron in self.bent
                if neuron not in found
                and self.values[self.nodes[neuron.layer]][k, neuron.index] == 0
            ]
            pattern = pattern_at(self.network, point) if suspects else None
            if pattern is None or not self.domain.margin(point[None, :])[0] > 0:
                continue
            for neuron, form in self._forms(pattern, suspects).items():
                if not any(form):
                    found[neuron] = VanishingNeuron(neuron, tuple(point.tolist()))
        return list(found.values())

    def _note_limits(self) -> None:
        """Note what is not examined for this network and domain."""
        if self.bent:
            self.not_examined.append(
                f"{len(self.bent)} neurons that read neurons with a kink: where their kernels, "
                "which bend, cross others, and whether they vanish on regions that no sample met"
            )
        if len(self.bent) + len(self.kernels) < len(self.open):
            self.not_examined.append(
                "where kernels cross: the network is too large for exact arithmetic"
            )
        if self.open and not self.domain.is_box:
            self.not_examined.append(
                "where kernels meet the border of the domain, which is not a box"
            )


def _certain_states(network: Network, domain: Domain) -> Pattern:
    """Return the states of gates that bounds prove to be constant on the domain."""
    bounds = bound_nodes(network.graph, {network.input: domain})
    layers = []
    for gate in network.gates:
        lower, upper = bounds[gate.x]
        states = np.where(lower > 0, ON, np.where(upper < 0, OFF, FREE))
        layers.append(states.astype(np.int8))
    return tuple(layers)


def _counts(name: str, states: np.ndarray) -> LayerCounts:
    """Count a layer's states."""
    return LayerCounts(name, states.size, int((states == ON).sum()), int((states == OFF).sum()))


def _weights(node: Affine) -> Matrix:
    """Return all weights and the bias side by side, sparse and without zeros."""
    matrix = sp.hstack(
        [*(sp.csr_array(w) for w, _ in node.terms), sp.csr_array(node.bias[:, None])], format="csr"
    )
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _proportional(rows: Mapping[Neuron, _Row]) -> list[tuple[Neuron, ...]]:
    """Return groups of neurons whose rows, none of which is 0, are multiples of each other.

    Rows are compared after division by their first coefficient: (2, 4) and (-1, -2) both become
    (1, 2). Quotients that are equal are rounded to equal floats, so that floats separate most rows
    first, and Fractions the rest.
    """
    groups = [tuple(rows)]
    for convert in (np.asarray, to_fractions):
        parts: dict[Hashable, list[Neuron]] = {}
        for group in groups:
            for neuron in group:
                row = rows[neuron]
                numbers = convert(row.values)
                ratios = (numbers / numbers[0]).tolist()
                parts.setdefault((group[0], row.node, row.columns, *ratios), []).append(neuron)
        groups = [tuple(part) for part in parts.values() if len(part) > 1]
    return groups
