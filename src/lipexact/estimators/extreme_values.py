"""CLEVER: what samples say of the largest gradient, by the theory of extreme values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy  # whose stats are loaded when they are used: they take a second
import scipy.optimize

from lipexact.estimators.propagation import linear
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.estimators.samples import drawn_points, generator, positive, sampler
from lipexact.numerics.arrays import Vector

_SHAPES = (0.1, 1.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # from which the fit starts
_SIGNIFICANT = 1e-3  # least p-value of a fit that is believed
_FLAT = 1e-9  # range of the maxima, relative to them, that is none
_WILD = 10.0  # times the largest sample: no end point is there


@estimator(
    "clever",
    "heuristic",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Weng et al., ICLR 2018",
)
def clever(
    question: EstimateRequest, *, batches: int = 500, samples: int = 1024, seed: int = 0
) -> EstimatorOutput:
    """The end point of a reverse Weibull distribution, fitted to the largest gradients of batches of samples.

    It lies between the largest sample and the certified bound of the estimator "linear": the details hold all three,
    and with `lower` a lower bound that is checked.

    Parameters
    ----------
    question
        What is asked.
    batches
        Each gives one maximum to the fit.
    samples
        Points in each, uniform in a box, by hit-and-run in other domains.
    seed
        Of the random numbers.
    """
    batches, samples = positive(batches, "batches"), positive(samples, "samples")
    rng, search = generator(seed), sampler(question)
    maxima: list[float] = []
    for _ in range(batches):
        if maxima and question.over:
            break
        best, where = -np.inf, None
        for points in drawn_points(question, rng, samples):
            sizes = search.norms(points)
            k = int(sizes.argmax())
            if sizes[k] > best:
                best, where = float(sizes[k]), points[k : k + 1]
        maxima.append(best)
        if where is not None and (search.incumbent is None or best > search.incumbent.norm.lower):
            search.improve(where)
    largest, ceiling = max(maxima), linear(question).value
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


def weibull_end(maxima: Vector) -> tuple[float, dict[str, Any]]:
    """The end point of the reverse Weibull distribution of some maxima, and what the fit says of itself.

    By maximum likelihood from several starts, of which that with the best p-value of a Kolmogorov-Smirnov test is
    taken; the largest of the maxima where no fit is credible.
    """
    largest = float(maxima.max())
    spread = largest - float(maxima.min())
    if len(maxima) < 2 or spread <= _FLAT * largest:
        return largest, {"p_value": None, "fit": "the maxima do not differ: the largest one"}
    below = (largest - maxima) / spread
    best, end = -1.0, largest
    for shape in _SHAPES:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                fitted = scipy.stats.weibull_min.fit(below, shape, optimizer=_simplex)
                tested = scipy.stats.kstest(below, "weibull_min", args=fitted)
            except (ValueError, RuntimeError, scipy.stats.FitError):
                continue
        found, p_value = largest - spread * fitted[1], float(tested.pvalue)
        if np.isfinite(found) and 0 <= found <= _WILD * largest and p_value > best:
            best, end = p_value, float(found)
    if best < _SIGNIFICANT:
        return largest, {"p_value": max(best, 0.0), "fit": "no credible fit: the largest maximum"}
    return end, {"p_value": best, "fit": "Weibull", "end_point": end}


def _simplex(function: Any, start: Any, args: Any = (), disp: Any = 0) -> Any:  # noqa: ARG001 - scipy passes disp
    return scipy.optimize.fmin(function, start, args=args, disp=0)
