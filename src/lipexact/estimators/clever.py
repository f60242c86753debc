"""CLEVER: an estimate of the largest gradient from samples, by extreme value theory."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy  # scipy.stats is loaded when it is used: that takes a second
import scipy.optimize

from lipexact.estimators import constants
from lipexact.estimators.propagation import linear
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.estimators.sampling import drawn_points, generator, local_search, positive
from lipexact.numerics.arrays import Vector
from lipexact.regions.heuristics import LocalSearch


@estimator(
    "clever",
    "heuristic",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Weng et al., ICLR 2018",
)
def clever(
    request: EstimateRequest, *, batches: int = 500, samples: int = 1024, seed: int = 0
) -> EstimatorOutput:
    """Fit a reverse Weibull distribution to the batches' largest gradients, and take its end point.

    The value lies between the largest sample and the certified bound of the estimator "linear". The
    details hold all three, and with `lower` a lower bound that is checked.

    Parameters
    ----------
    request
        The network, the domain and the norms.
    batches
        The number of batches, each of which gives one maximum to the fit.
    samples
        The number of points in each batch: uniform in a box, by hit-and-run in other domains.
    seed
        The seed of the random numbers.
    """
    batches = positive(batches, "batches")
    samples = positive(samples, "samples")
    rng = generator(seed)
    search = local_search(request)
    maxima: list[float] = []
    for _ in range(batches):
        if maxima and request.over:
            break
        maxima.append(_batch_maximum(request, search, rng, samples))
    largest = max(maxima)
    ceiling = linear(request).value
    end, details = weibull_end(np.array(maxima))
    # The largest sample may be that of a kink, where no region has this gradient.
    value = float(min(max(end, largest), ceiling))
    lower = 0.0 if search.incumbent is None else search.incumbent.norm.lower
    details |= {
        "largest_sample": largest,
        "lower": lower,
        "ceiling": ceiling,
        "batches": len(maxima),
    }
    return EstimatorOutput(value, details, proof="none")


def _batch_maximum(
    request: EstimateRequest, search: LocalSearch, rng: np.random.Generator, samples: int
) -> float:
    """Return the largest norm of a batch, and let the search check the point that attains it."""
    best = -np.inf
    where: Vector | None = None
    for points in drawn_points(request, rng, samples):
        sizes = search.norms(points)
        k = int(sizes.argmax())
        if sizes[k] > best:
            best = float(sizes[k])
            where = points[k : k + 1]
    if where is not None and (search.incumbent is None or best > search.incumbent.norm.lower):
        search.improve(where)
    return best


def weibull_end(maxima: Vector) -> tuple[float, dict[str, Any]]:
    """Return the end point of the reverse Weibull distribution of some maxima, and its fit.

    The fit is by maximum likelihood from several starts, of which the one with the best p-value of
    a Kolmogorov-Smirnov test is taken. Where no fit is credible, the end is the largest maximum.
    """
    largest = float(maxima.max())
    spread = largest - float(maxima.min())
    if len(maxima) < 2 or spread <= constants.MIN_RELATIVE_SPREAD * largest:
        return largest, {"p_value": None, "fit": "the maxima do not differ: the largest one"}
    below = (largest - maxima) / spread
    best_p_value = -1.0
    end = largest
    for shape in constants.WEIBULL_SHAPES:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                fitted = scipy.stats.weibull_min.fit(below, shape, optimizer=_simplex)
                tested = scipy.stats.kstest(below, "weibull_min", args=fitted)
            except (ValueError, RuntimeError, scipy.stats.FitError):
                continue
        fitted_end = largest - spread * fitted[1]
        p_value = float(tested.pvalue)
        credible = np.isfinite(fitted_end) and 0 <= fitted_end <= constants.MAX_END_RATIO * largest
        if credible and p_value > best_p_value:
            best_p_value = p_value
            end = float(fitted_end)
    if best_p_value < constants.MIN_P_VALUE:
        return largest, {
            "p_value": max(best_p_value, 0.0),
            "fit": "no credible fit: the largest maximum",
        }
    return end, {"p_value": best_p_value, "fit": "Weibull", "end_point": end}


def _simplex(function: Any, start: Any, args: Any = (), disp: Any = 0) -> Any:  # noqa: ARG001 - scipy passes disp
    """Minimise by the Nelder-Mead method, silently."""
    return scipy.optimize.fmin(function, start, args=args, disp=0)
