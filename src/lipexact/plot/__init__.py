"""Pictures of bounds, regions, radii, training and errors."""

from lipexact.plot.pictures import (
    ErrorRow,
    bounds,
    errors,
    linear_regions,
    radius,
    regions,
    training,
)

__all__ = ["ErrorRow", "bounds", "errors", "linear_regions", "radius", "regions", "training"]
