"""Bounds and estimates of Lipschitz constants, each with a stated guarantee; importing this registers them."""

from lipexact.estimators import (
    best,
    extreme_values,
    ours,
    products,
    propagation,
    samples,
    semidefinite,
)

__all__ = ["best", "extreme_values", "ours", "products", "propagation", "samples", "semidefinite"]
