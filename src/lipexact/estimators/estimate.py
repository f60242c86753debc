"""The call by which every estimator is run."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import lipexact.estimators  # noqa: F401 - which registers them
from lipexact.bounds.formulation import blas_threads, checked_norm_sets
from lipexact.errors import ModelError, OptionError
from lipexact.estimators.registry import (
    EstimateRequest,
    EstimatorOutput,
    Guarantee,
    Scope,
    estimators,
    find,
)
from lipexact.loading import load
from lipexact.network import Network
from lipexact.options import check_seconds
from lipexact.serialise import to_plain
from lipexact.sets.domain import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm


@dataclass(frozen=True)
class Estimate:
    """What :func:`estimate` returns.

    Attributes
    ----------
    method
        The estimator's name.
    value
        The bound or estimate.
    guarantee
        "lower": `value` is at most the constant; "upper": at least; "exact": it is the constant, as
        :func:`lipexact.lipschitz` defines it; "heuristic": none of these.
    scope
        "global": the value is about the constant on all of R^d, whatever the domain;
        "local": about that on the domain.
    proof
        "float" where the guarantee comes from the package's own arithmetic, rounded outward;
        "solver" where it rests on a solver's claim; "none" for heuristics.
    seconds
        Wall-clock time.
    details
        The estimator's further results by name.
    """

    method: str
    value: float
    guarantee: Guarantee
    scope: Scope
    proof: str
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return strings, numbers, lists and dictionaries.

        Numbers that are not finite are the strings "inf", "-inf" and "nan".
        """
        plain: dict[str, Any] = to_plain(self)
        return plain

    def to_json(self, **options: Any) -> str:
        """Return `to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)


def estimate(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    method: str = "best-upper",
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    time_limit: float | None = None,
    **options: Any,
) -> Estimate:
    """Compute a bound or an estimate of a network's Lipschitz constant.

    Parameters
    ----------
    model, domain, input_norm, output_norm, functional
        As for :func:`lipexact.lipschitz`.
    method
        One of :func:`estimator_names`.
    time_limit
        Seconds of wall-clock time, after which the estimator returns its best result so far. It
        finishes the step that it is in, such as one linear program or one product of matrices.
    options
        The estimator's own options: see the documentation's page on estimators.

    Returns
    -------
    Estimate

    Raises
    ------
    ModelError, UnsupportedOperatorError, DomainError, NormError
        As for :func:`lipexact.lipschitz`.
    OptionError
        If there is no such estimator, or it has no such option.
    UnsupportedEstimateError
        If its mathematics does not cover the norms, the network or its size.
    SolverUnavailableError
        If it needs a package that is missing.
    SolverError
        If its solver breaks down.

    Examples
    --------
    >>> import lipexact as lx
    >>> net = lx.Network.from_layers([([[1], [-1]], [0, 0]), ([[1, -1]], [0])])  # the identity
    >>> round(estimate(net, lx.Box([-1], [1]), "naive").value, 9)
    2.0
    """
    start = time.perf_counter()
    entry = find(method)
    entry.check(options)
    limit = check_seconds("time_limit", time_limit)
    network = load(model)
    with blas_threads(network), np.errstate(all="ignore"):  # what overflows is no bound
        functionals, directions = checked_norm_sets(
            network, domain, input_norm, output_norm, functional
        )
        asked = {"input_norm": input_norm, "output_norm": output_norm, "functional": functional}
        deadline = np.inf if limit is None else start + limit
        request = EstimateRequest(network, domain, functionals, directions, asked, deadline)
        output = entry.run(request, **options)
    if not isinstance(output, EstimatorOutput):
        raise OptionError(
            f"the estimator {method!r} must return an EstimatorOutput, not {output!r}"
        )
    value = float(output.value)
    guarantee = output.guarantee or entry.guarantee
    if guarantee == "lower" and math.isinf(value):
        raise ModelError(
            "the network's derivative overflows on this domain; scale its weights or inputs"
        )
    return Estimate(
        method,
        value,
        guarantee,
        entry.scope,
        "none" if guarantee == "heuristic" else output.proof,
        time.perf_counter() - start,
        output.details,
    )


def estimator_names() -> list[str]:
    """Return the names of all estimators."""
    return list(estimators())
