"""What a certificate states, written from a search's network, domain, sets and incumbent."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from lipexact.bab import constants
from lipexact.certificates.certificate import FORMAT, VERSION, fingerprint
from lipexact.certificates.checker.verifier import Verifier
from lipexact.errors import CertificateError
from lipexact.graph.pattern import ON
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.problem.homogenize import Homogenization
from lipexact.regions.heuristics import Incumbent
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.polyhedral import HalfSpaces, Hull
from lipexact.sets.unit_balls import CrossPolytope, Cube, EuclideanUnitBall, Stretched, SymmetricSet


def statement(
    network: Network, domain: Domain, functionals: SymmetricSet, directions: SymmetricSet
) -> dict[str, Any]:
    """Return the statement of a certificate: the network, the domain and the sets of its bounds.

    Raises
    ------
    CertificateError
        If there are no certificates for such a network or such norms.
    """
    if network.parameters > constants.MAX_PROVEN_PARAMETERS:
        raise CertificateError(
            "there are no certificates for networks of more than "
            f"{constants.MAX_PROVEN_PARAMETERS} parameters"
        )
    few = (
        functionals.vertex_count <= max(constants.MAX_HELD_VERTICES, directions.vertex_count)
        or directions.axes is not None
    )
    data = {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "fingerprint": fingerprint(network),
            "inputs": network.input.size,
            "outputs": network.output.size,
        },
        "domain": _domain(network, domain),
        "functionals": _symmetric_set(functionals),
        "directions": _symmetric_set(directions),
        "mode": "reverse" if few else "forward",
        "lower": None,
        "upper": None,
        "witness": None,
        "proof": None,
    }
    Verifier(network, data)
    return data


def _domain(network: Network, domain: Domain) -> dict[str, Any]:
    """Return the domain as in the file."""
    if isinstance(domain, Reals):
        return {"reals": Homogenization(network).scale.tolist()}
    return {
        "lower": domain.lower.tolist(),
        "upper": domain.upper.tolist(),
        "rows": domain.rows.tolist(),
        "limits": domain.limits.tolist(),
        "balls": [{"center": centre.tolist(), "radius": radius} for centre, radius in domain.balls],
    }


def _symmetric_set(symmetric_set: SymmetricSet) -> dict[str, Any]:
    """Return a set of functionals or directions as in the file."""
    factors: Vector = np.ones(symmetric_set.dim)
    if isinstance(symmetric_set, Stretched):
        factors = symmetric_set.factors
        symmetric_set = symmetric_set.base
    if isinstance(symmetric_set, Hull):
        return {"kind": "hull", "points": _stretched_points(symmetric_set.points, factors)}
    if isinstance(symmetric_set, HalfSpaces):
        return {"kind": "halfspaces", "rows": symmetric_set.rows.tolist()}
    kinds = {Cube: "cube", CrossPolytope: "cross", EuclideanUnitBall: "ball"}
    kind = kinds.get(type(symmetric_set))
    if kind is None:
        raise CertificateError("there are no certificates for such norms")
    return {"kind": kind, "factors": factors.tolist()}


def _stretched_points(points: Vector, factors: Vector) -> list[list[float]]:
    """Return the points of a hull, multiplied by factors; an error if a product is rounded."""
    stretched = points * factors
    triples = zip(
        stretched.ravel().tolist(),
        points.ravel().tolist(),
        np.tile(factors, len(points)).tolist(),
        strict=True,
    )
    if any(Fraction(p) != Fraction(q) * Fraction(f) for p, q, f in triples):
        raise CertificateError("points of a set are rounded")
    return stretched.tolist()  # type: ignore[no-any-return]


def witness(network: Network, domain: Domain, incumbent: Incumbent) -> dict[str, Any]:
    """Return the witness of a lower bound as in the file.

    Where the domain is all of R^d, the incumbent is one of the homogenized network, and the witness
    one of the network itself. A point that no floats have is written in integers, to be divided by
    `over`: (1/3, 1/2) as (2, 3) over 6.
    """
    whole = Homogenization(network) if isinstance(domain, Reals) else None
    region = incumbent.region
    point = region.point if whole is None else whole.point(region.point)
    direction = incumbent.norm.direction
    direction = direction if whole is None else whole.direction(direction)
    fractions = [Fraction(entry) for entry in point.tolist()]
    over = math.lcm(*(entry.denominator for entry in fractions))
    entries: list[float] | list[int]
    if over & (over - 1) == 0 and all(Fraction(float(entry)) == entry for entry in fractions):
        over = 1
        entries = [float(entry) for entry in fractions]
    else:
        entries = [int(entry * over) for entry in fractions]
    return {
        "point": entries,
        "over": over,
        "pattern": [
            "".join("1" if state == ON else "0" for state in layer) for layer in region.pattern
        ],
        "functional": incumbent.norm.functional.tolist(),
        "direction": direction.tolist(),
    }
