"""What was asked, as plain data: a result carries it, and so does its JSON.

Arrays stay arrays here, of which nothing is copied; :mod:`lipexact.serialise` writes them out.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from lipexact.network import Network
from lipexact.options import Options
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.functionals import CrossLipschitz, Functional
from lipexact.sets.norms import Norm, PolyhedralNorm


def describe_request(
    network: Network,
    input_norm: str | Norm,
    output_norm: str | Norm | None,
    functional: Functional,
    options: Options,
) -> dict[str, Any]:
    """Return a question but for its domain."""
    return {
        "network": {
            "name": network.name,
            "input_shape": list(network.input_shape),
            "output_shape": list(network.output_shape),
        },
        "input_norm": describe_norm(input_norm),
        "output_norm": describe_norm(output_norm),
        "functional": describe_functional(functional),
        "options": asdict(options),
    }


def describe_domain(domain: Domain) -> dict[str, Any]:
    """Return a domain as its bounding box, its half-spaces, and its balls."""
    if isinstance(domain, Reals):
        return {"reals": domain.dim}
    described: dict[str, Any] = {"lower": domain.lower, "upper": domain.upper}
    if domain.limits.size:
        described |= {"rows": domain.rows, "limits": domain.limits}
    if domain.balls:
        balls = [{"center": center, "radius": radius} for center, radius in domain.balls]
        described["l1_balls"] = balls
    return described


def describe_norm(norm: str | Norm | None) -> Any:
    """Return a norm by its name, or by its vertices or half-spaces, one of each pair."""
    if isinstance(norm, PolyhedralNorm):
        return {"vertices" if norm.by_vertices else "halfspaces": norm.rows}
    return norm if norm is None or isinstance(norm, str) else repr(norm)


def describe_functional(functional: Functional) -> Any:
    """Return a functional by its index, its entries, or the set that it ranges over."""
    if isinstance(functional, CrossLipschitz):
        return {"cross": functional.label}
    if isinstance(functional, Domain):
        return describe_domain(functional)
    if functional is None or isinstance(functional, int | np.integer):
        return functional
    return np.asarray(functional)
