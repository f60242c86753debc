"""What is reported about general position, as data and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lipexact.regions import constants


@dataclass(frozen=True, order=True)
class Neuron:
    """A neuron: entry `index` of gate `layer` of `Network.gates`, whose name is `name`."""

    layer: int
    index: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}[{self.index}]"


@dataclass(frozen=True)
class LayerCounts:
    """How many of a layer's neurons have no kink in the domain, since they are always on or off."""

    name: str
    size: int
    on: int
    off: int


@dataclass(frozen=True)
class VanishingNeuron:
    """A neuron whose pre-activation is 0 on a set with interior.

    Attributes
    ----------
    neuron
        The neuron.
    point
        A point of the set, shape (d,); None if the set is the whole domain.
    """

    neuron: Neuron
    point: tuple[float, ...] | None

    def __str__(self) -> str:
        if self.point is None:
            return f"{self.neuron} everywhere"
        return f"{self.neuron} on a part of the domain{_at(self.point)}"


@dataclass(frozen=True)
class Crossing:
    """Kernels that meet in a higher dimension than general position allows.

    Attributes
    ----------
    neurons
        Whose kernels they are.
    dimension
        Of the intersection.
    point
        A point of the intersection inside the domain, shape (d,), rounded.
    """

    neurons: tuple[Neuron, ...]
    dimension: int
    point: tuple[float, ...]

    def __str__(self) -> str:
        places = {0: "in a point", 1: "in a line"}
        place = places.get(self.dimension, f"in dimension {self.dimension}")
        return f"{names_of(self.neurons)} meet {place}{_at(self.point)}"


@dataclass(frozen=True)
class PositionReport:
    """What :func:`~lipexact.api.general_position_report` found.

    Attributes
    ----------
    layers
        For each layer how many neurons have no kink in the domain: they play no role.
    vanishing
        Neurons whose pre-activation is 0 on a set with interior.
    coinciding
        Groups of neurons with the same kernel, which crosses the domain.
    crowded
        Kernels that meet in a higher dimension than general position allows; of a coinciding group
        only the first neuron is named.
    undecided
        Possible violations that could be neither proven nor excluded.
    not_examined
        What was not looked at.
    """

    layers: tuple[LayerCounts, ...]
    vanishing: tuple[VanishingNeuron, ...]
    coinciding: tuple[tuple[Neuron, ...], ...]
    crowded: tuple[Crossing, ...]
    undecided: tuple[str, ...]
    not_examined: tuple[str, ...]

    @property
    def in_general_position(self) -> bool | None:
        """False if a violation is proven, True if it is proven that there is none, else None.

        True holds for the closed domain.
        """
        if self.vanishing or self.coinciding or self.crowded:
            return False
        return None if self.undecided or self.not_examined else True

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, fit for JSON."""
        return {"in_general_position": self.in_general_position, **asdict(self)}

    def __str__(self) -> str:
        total = sum(layer.size for layer in self.layers)
        kinks = total - sum(layer.on + layer.off for layer in self.layers)
        answer = {True: "yes", False: "no", None: "not decided"}[self.in_general_position]
        lines = [
            f"General position: {answer}.",
            f"{kinks} of {total} neurons may have a kink in the domain; the others play no role.",
            *_listed("Zero on a whole region", self.vanishing),
            *_listed("Same kernel", map(names_of, self.coinciding)),
            *_listed("Too many kernels in one place", self.crowded),
        ]
        if self.in_general_position is not None:
            effect = (
                "lose nothing by that here"
                if self.in_general_position
                else "may overestimate here; lipexact's answer stays exact"
            )
            lines.append(
                f"Programs that let each neuron at zero choose its state, such as LipMIP, {effect}."
            )
        lines += _listed("Not decided", self.undecided)
        lines += _listed("Not looked at", self.not_examined)
        return "\n".join(lines)


def _listed(title: str, findings: Iterable[object]) -> list[str]:
    """Return a title and the first findings as lines of text; nothing without findings."""
    texts = [f"  {finding}" for finding in findings]
    if not texts:
        return []
    lines = [f"{title}:", *texts[: constants.LISTED_FINDINGS]]
    if len(texts) > constants.LISTED_FINDINGS:
        lines.append(f"  ... and {len(texts) - constants.LISTED_FINDINGS} more")
    return lines


def names_of(neurons: Sequence[Neuron]) -> str:
    """Return the first neurons' names, and how many more there are."""
    shown = ", ".join(map(str, neurons[: constants.LISTED_FINDINGS]))
    more = len(neurons) - constants.LISTED_FINDINGS
    return f"{shown} and {more} more" if more > 0 else shown


def _at(point: tuple[float, ...]) -> str:
    """Return the place of a finding as text, if it has few coordinates."""
    return f", at ({', '.join(f'{entry:.6g}' for entry in point)})" if len(point) <= 4 else ""
